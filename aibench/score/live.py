"""The score of a run that goes on, at a cost that does not grow with the run."""

from __future__ import annotations

from dataclasses import dataclass

from aibench.score.epoch_log import TimedEpoch
from aibench.score.history import RunHistory, TrialHistory
from aibench.score.score import Sample, epoch_ops, floored_error


@dataclass(frozen=True, order=True, slots=True)
class _Best:
    """The lowest error of some epochs; of equal ones, the first."""

    error: float
    t_s: float
    trial: int
    is_error_floored: bool


@dataclass(slots=True)
class _Sum:
    """What the epochs of one trial came to so far."""

    num_epochs: int = 0
    work_ops: int = 0
    best: _Best | None = None


class LiveScore:
    """Follows a history and tells the last sample of `compute_score` at any time.

    An epoch is looked at once, an open trial at every question.
    """

    def __init__(self, history: RunHistory) -> None:
        self._history = history
        self._num_closed = 0
        self._closed = _Sum()
        self._open: dict[int, _Sum] = {}
        self._last_epoch_s = 0.0

    def final(self) -> Sample | None:
        """The score of all finished epochs; None before the first of a trial that did not fail."""
        self._take_in_closed()
        sums = [self._closed, *(self._followed(trial) for trial in self._history.open_trials.values())]
        bests = [one.best for one in sums if one.best is not None]
        elapsed_s = self._last_epoch_s - (self._history.start_s or 0.0)
        if not bests or elapsed_s <= 0:
            return None
        best = min(bests)
        return Sample(
            t_s=elapsed_s,
            work_ops=sum(one.work_ops for one in sums),
            elapsed_s=elapsed_s,
            best_error=best.error,
            is_error_floored=best.is_error_floored,
        )

    def _take_in_closed(self) -> None:
        for trial in self._history.closed_trials[self._num_closed :]:
            one = self._followed(trial)
            del self._open[trial.number]
            if trial.scores:
                self._closed.work_ops += one.work_ops
                self._closed.best = _better(self._closed.best, one.best)
        self._num_closed = len(self._history.closed_trials)

    def _followed(self, trial: TrialHistory) -> _Sum:
        one = self._open.setdefault(trial.number, _Sum())
        for timed in trial.epochs[one.num_epochs :]:
            one.num_epochs += 1
            one.work_ops += epoch_ops(trial.claimed, timed.finished)
            one.best = _better(one.best, _best_of(trial.number, timed))
            self._last_epoch_s = max(self._last_epoch_s, timed.t_s)
        return one


def _best_of(trial: int, timed: TimedEpoch) -> _Best:
    error, is_floored = floored_error(timed.finished.result)
    return _Best(error, timed.t_s, trial, is_floored)


def _better(one: _Best | None, other: _Best | None) -> _Best | None:
    return min((best for best in (one, other) if best is not None), default=None)
