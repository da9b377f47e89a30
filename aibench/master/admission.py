"""Who may speak for a trial, and what an epoch and its end must be to be taken in."""

from __future__ import annotations

from aibench import __version__
from aibench.api.events import Outcome
from aibench.api.protocol import JoinRequest
from aibench.api.workload import DatasetDescription, EpochResult
from aibench.errors import ProtocolError
from aibench.score.history import RunHistory, TrialHistory

MAX_CLOCK_SKEW_S = 2.0


def reason_unfit(request: JoinRequest, unix_s: float) -> str:
    """Why this gang may not take part, whatever it does: another release, or a clock that is off; or nothing.

    Args:
        unix_s: The master's wall clock.
    """
    who = f"worker {request.worker} on {request.host}"
    if request.version != __version__:
        return (
            f"{who} runs aibench {request.version}, the master {__version__}; "
            "install the same release on all nodes"
        )
    skew_s = request.unix_s - unix_s
    if abs(skew_s) > MAX_CLOCK_SKEW_S:
        return (
            f"the clock of {who} is {abs(skew_s):.1f} s {'ahead' if skew_s > 0 else 'behind'}; "
            f"expected at most {MAX_CLOCK_SKEW_S:g} s, synchronise the nodes' clocks (NTP)"
        )
    return ""


def check_joined(history: RunHistory, worker: str, incarnation: str) -> None:
    """Refuse strangers, past lives, and workers that were given up in a run that goes on.

    Raises:
        ProtocolError: 409 if the worker has to join first.
    """
    known = history.workers.get(worker)
    if known is None or known.joined.incarnation != incarnation:
        raise ProtocolError(409, f"worker {worker!r} has not joined in this incarnation", must_join=True)
    if known.lost_s is not None and history.ended is None:
        raise ProtocolError(409, f"worker {worker!r} was given up: join again", must_join=True)


def own_trial(history: RunHistory, number: int, worker: str, incarnation: str) -> TrialHistory:
    """The trial, open or closed, that was leased to this life of the worker.

    Raises:
        ProtocolError: 409 if it was not.
    """
    trial = history.trials.get(number)
    owner = (trial.claimed.worker, trial.claimed.incarnation) if trial else None
    if trial is None or owner != (worker, incarnation):
        raise ProtocolError(409, f"trial {number} is not leased to worker {worker!r}")
    return trial


def check_epoch(
    trial: TrialHistory, result: EpochResult, dataset: DatasetDescription, *, num_ranks: int
) -> None:
    """Compare an epoch with its trial, the data set and the gang that reports it.

    Raises:
        ProtocolError: 409 if it is not the next epoch of the trial, 422 if it cannot have happened.
    """
    due, epochs = len(trial.epochs) + 1, trial.claimed.spec.epochs
    if result.epoch != due or due > epochs:
        raise ProtocolError(409, f"epoch {result.epoch} arrived where {due} of {epochs} is due")
    problem = _problem(trial, result, dataset, num_ranks)
    if problem:
        raise ProtocolError(422, problem)


def check_outcome(outcome: Outcome) -> None:
    """Refuse the outcomes that only the master can tell.

    Raises:
        ProtocolError: 422 if it is one of them.
    """
    if outcome not in (Outcome.COMPLETED, Outcome.FAILED, Outcome.STOPPED):
        raise ProtocolError(422, f"outcome {outcome}: a worker reports completed, failed or stopped")


def check_end(trial: TrialHistory, outcome: Outcome, *, is_to_stop: bool) -> None:
    """Compare the reported outcome of an open trial with its epochs.

    Args:
        is_to_stop: Whether its worker was asked to stop it.

    Raises:
        ProtocolError: 409 if it is not complete, or nobody asked to stop it.
    """
    done, due = len(trial.epochs), trial.claimed.spec.epochs
    if outcome is Outcome.COMPLETED and done < due:
        raise ProtocolError(409, f"trial {trial.number} has {done} of {due} epochs")
    if outcome is Outcome.STOPPED and not is_to_stop:
        raise ProtocolError(409, f"nobody asked to stop trial {trial.number}")
    if outcome is Outcome.STOPPED and done == due:
        raise ProtocolError(409, f"trial {trial.number} has all of its {due} epochs")


def _problem(
    trial: TrialHistory, result: EpochResult, dataset: DatasetDescription, num_ranks: int
) -> str | None:
    counted = trial.claimed.parameters
    if result.validation_correct > result.validation_images:
        return f"{result.validation_correct} of {result.validation_images} images correct"
    if result.parameters != counted:
        return f"a network of {result.parameters} parameters was trained, {counted} were counted"
    if result.train_images > dataset.train_images:
        return f"{result.train_images} train images in an epoch of {dataset.train_images}"
    if result.validation_images > dataset.validation_images:
        return f"{result.validation_images} validation images of {dataset.validation_images}"
    if len(result.ranks) != num_ranks:
        return f"times of {len(result.ranks)} ranks from a gang of {num_ranks}"
    return None
