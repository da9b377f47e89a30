"""A run as its records tell it: one reducer, used by the running master and by everybody afterwards."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from aibench.api.events import (
    ClockAnchor,
    EpochFinished,
    Event,
    Outcome,
    RunEnded,
    RunResumed,
    RunStarted,
    StartBarrierOpened,
    TrialClaimed,
    TrialClosed,
    WorkerJoined,
    WorkerLost,
)
from aibench.errors import JournalError
from aibench.journal import Record
from aibench.score.epoch_log import EpochLog, TimedEpoch


@dataclass(slots=True)
class TrialHistory:
    """One trial so far."""

    claimed_s: float
    claimed: TrialClaimed
    closed_s: float | None = None
    closed: TrialClosed | None = None
    epochs: EpochLog = field(init=False)

    def __post_init__(self) -> None:
        self.epochs = EpochLog(self.number, self.claimed.parameters)

    @property
    def number(self) -> int:
        """The trial's number."""
        return self.claimed.spec.trial

    @property
    def is_open(self) -> bool:
        """Whether a worker holds its lease."""
        return self.closed is None

    @property
    def scores(self) -> bool:
        """Whether its finished epochs count; those of a failed trial do not."""
        return self.closed is None or self.closed.outcome.scores

    @property
    def closing_reason(self) -> str:
        """Why it was closed, if that was said."""
        return self.closed.reason if self.closed else ""

    @property
    def error(self) -> float | None:
        """Lowest top-1 validation error of its epochs; None before the first or if it failed."""
        if not self.scores or not self.epochs:
            return None
        return min(self.errors)

    @property
    def errors(self) -> list[float]:
        """Top-1 validation errors of its epochs, in order."""
        return self.epochs.errors()

    @property
    def search_error(self) -> float | None:
        """What the search was told when it was closed: the best error, or the one predicted in its place."""
        if self.closed is None or self.closed.search_error is None:
            return self.error
        return self.closed.search_error


@dataclass(slots=True)
class WorkerHistory:
    """One worker so far.

    Attributes:
        joined: Its present or last incarnation.
        lost_s: When it was last given up; None while it is thought alive.
        away_s: Closed spans between a loss and the next join.
        num_claimed: Trials claimed by all its incarnations.
        past_lives: Incarnations that a newer one replaced.
        open_trials: Those that it holds the lease of, by number.
    """

    joined_s: float
    joined: WorkerJoined
    lost_s: float | None = None
    away_s: list[tuple[float, float]] = field(default_factory=list)
    num_claimed: int = 0
    past_lives: set[str] = field(default_factory=set)
    open_trials: dict[int, TrialHistory] = field(default_factory=dict)


class RunHistory:
    """Everything the records of a run say, in order.

    `apply` refuses records that contradict earlier ones, so that a journal that was accepted is consistent.
    """

    def __init__(self) -> None:
        self.started: RunStarted | None = None
        self.barrier: StartBarrierOpened | None = None
        self.ended: RunEnded | None = None
        self.resumes: list[RunResumed] = []
        self.anchors: list[tuple[float, ClockAnchor]] = []
        self.workers: dict[str, WorkerHistory] = {}
        self.trials: dict[int, TrialHistory] = {}
        self.open_trials: dict[int, TrialHistory] = {}
        self.closed_trials: list[TrialHistory] = []
        self.last: Record | None = None
        self._num_lost_workers = 0

    @classmethod
    def of(cls, records: Iterable[Record]) -> RunHistory:
        """Read a whole run.

        Raises:
            JournalError: A record contradicts the ones before it.
        """
        history = cls()
        for record in records:
            history.apply(record)
        return history

    @property
    def header(self) -> RunStarted:
        """The first event; only asked of a history that has one."""
        assert self.started is not None
        return self.started

    @property
    def start_s(self) -> float | None:
        """When the first trial was claimed: the start of the measured clock."""
        return next((trial.claimed_s for trial in self.trials.values()), None)

    @property
    def num_present_workers(self) -> int:
        """Workers that joined and are not given up."""
        return len(self.workers) - self._num_lost_workers

    def apply(self, record: Record) -> None:
        """Take in the next record.

        Raises:
            JournalError: It contradicts the records before it.
        """
        try:
            self._check_order(record.event)
            self._take(record.t_s, record.event)
        except ValueError as error:
            raise JournalError(str(error), line=record.seq, recoverable=record.seq - 1) from error
        self.last = record

    def _check_order(self, event: Event) -> None:
        if (self.started is None) != isinstance(event, RunStarted):
            raise ValueError("a run starts once, with its first record")
        if self.ended is not None:
            raise ValueError("the run has ended already")

    def _take(self, t_s: float, event: Event) -> None:
        match event:
            case RunStarted():
                self.started = event
                self.anchors.append((t_s, event.anchor))
            case RunResumed():
                self.resumes.append(event)
                self.anchors.append((t_s, event.anchor))
            case StartBarrierOpened():
                self._open_barrier(event)
            case WorkerJoined():
                self._join(t_s, event)
            case WorkerLost():
                self._lose(t_s, event)
            case TrialClaimed():
                self._claim(t_s, event)
            case EpochFinished():
                self._finish_epoch(t_s, event)
            case TrialClosed():
                self._close(t_s, event)
            case RunEnded():
                self._end(event)

    def _open_barrier(self, event: StartBarrierOpened) -> None:
        if self.barrier is not None:
            raise ValueError("the start barrier is open already")
        self.barrier = event

    def _join(self, t_s: float, event: WorkerJoined) -> None:
        worker = self.workers.setdefault(event.worker, WorkerHistory(t_s, event))
        if event.incarnation in worker.past_lives:
            raise ValueError(f"a past life of {event.worker!r} joins again")
        if worker.joined.incarnation != event.incarnation:
            _check_no_lease(worker)
            worker.past_lives.add(worker.joined.incarnation)
        if worker.lost_s is not None:
            worker.away_s.append((worker.lost_s, t_s))
            self._num_lost_workers -= 1
        worker.joined, worker.lost_s = event, None

    def _worker(self, name: str) -> WorkerHistory:
        if name not in self.workers:
            raise ValueError(f"worker {name!r} never joined")
        return self.workers[name]

    def _lose(self, t_s: float, event: WorkerLost) -> None:
        worker = self._worker(event.worker)
        if worker.joined.incarnation != event.incarnation or worker.lost_s is not None:
            raise ValueError(f"{event.worker!r} is lost in a life that is over")
        _check_no_lease(worker)
        worker.lost_s = t_s
        self._num_lost_workers += 1

    def _claim(self, t_s: float, event: TrialClaimed) -> None:
        if self.barrier is None:
            raise ValueError(f"trial {event.spec.trial} claimed before the start barrier opened")
        if event.spec.trial != len(self.trials) + 1:
            raise ValueError(f"trial {event.spec.trial} claimed where {len(self.trials) + 1} is due")
        worker = self._worker(event.worker)
        if worker.joined.incarnation != event.incarnation or worker.lost_s is not None:
            raise ValueError(f"trial {event.spec.trial} claimed by a past life of {event.worker!r}")
        worker.num_claimed += 1
        trial = TrialHistory(t_s, event)
        self.trials[trial.number] = self.open_trials[trial.number] = trial
        worker.open_trials[trial.number] = trial

    def _open_trial(self, number: int) -> TrialHistory:
        if number not in self.open_trials:
            raise ValueError(f"trial {number} is not leased to anyone")
        return self.open_trials[number]

    def _finish_epoch(self, t_s: float, event: EpochFinished) -> None:
        trial = self._open_trial(event.trial)
        result = event.result
        due = len(trial.epochs) + 1
        if result.epoch != due or due > trial.claimed.spec.epochs:
            raise ValueError(
                f"trial {event.trial}: epoch {result.epoch} finished where {due} of "
                f"{trial.claimed.spec.epochs} is due"
            )
        if result.validation_correct > result.validation_images:
            raise ValueError(
                f"trial {event.trial}: {result.validation_correct} of {result.validation_images} correct"
            )
        if result.parameters != trial.claimed.parameters:
            raise ValueError(
                f"trial {event.trial}: a network of {result.parameters} parameters was trained, "
                f"{trial.claimed.parameters} were counted"
            )
        num_ranks = len(self.workers[trial.claimed.worker].joined.devices)
        if len(result.ranks) != num_ranks:
            raise ValueError(f"trial {event.trial}: times of {len(result.ranks)} ranks, not {num_ranks}")
        trial.epochs.append(TimedEpoch(t_s, event, len(self.closed_trials)))

    def _close(self, t_s: float, event: TrialClosed) -> None:
        trial = self._open_trial(event.trial)
        done, due = len(trial.epochs), trial.claimed.spec.epochs
        if event.outcome is Outcome.COMPLETED and done < due:
            raise ValueError(f"trial {event.trial}: completed with {done} of {due} epochs")
        if event.outcome is Outcome.STOPPED and not 0 < done < due:
            raise ValueError(f"trial {event.trial}: stopped with {done} of {due} epochs")
        trial.closed_s, trial.closed = t_s, event
        self.closed_trials.append(self.open_trials.pop(trial.number))
        del self.workers[trial.claimed.worker].open_trials[trial.number]

    def _end(self, event: RunEnded) -> None:
        if self.open_trials:
            raise ValueError(f"the run ends with trial {next(iter(self.open_trials))} still leased")
        self.ended = event


def _check_no_lease(worker: WorkerHistory) -> None:
    for number in worker.open_trials:
        raise ValueError(f"trial {number} is still leased to the past life of {worker.joined.worker!r}")
