"""The score: W(T) / (t_last_finished_epoch - t_start), times -ln(error).

W(T) sums, over every epoch finished by T of trials that did not fail, train images · training operations +
validation images · evaluation operations. t_start is the first trial's start. The last finished epoch may
be a failed trial's, so that time spent on failures is not left out. Source: the reference
implementation of AIPerf v1.0; where we differ because it errs is tested in
tests/unit/test_original_defects.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from aibench.api.events import EpochFinished, TrialClaimed
from aibench.api.workload import EpochResult
from aibench.score.history import RunHistory

SECONDS_PER_HOUR = 3600.0
FIRST_SAMPLE_S = 0.2 * SECONDS_PER_HOUR
SAMPLE_PERIOD_S = 0.1 * SECONDS_PER_HOUR
MIN_SAMPLES = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """The score as it stood at one time.

    Attributes:
        t_s: Seconds since the first trial's start.
        work_ops: W, an exact integer.
        elapsed_s: From the first trial's start to the last epoch finished by then, of failed trials too.
        best_error: Lowest top-1 validation error by then, floored at 1 / validation images.
        is_error_floored: The error was 0 and stands at its floor.
    """

    t_s: float
    work_ops: int
    elapsed_s: float
    best_error: float
    is_error_floored: bool

    @property
    def ops_per_s(self) -> float:
        """Score: operations per second."""
        return self.work_ops / self.elapsed_s

    @property
    def normalized_ops_per_s(self) -> float:
        """Normalized score: score · -ln(error)."""
        return self.ops_per_s * (0.0 - math.log(self.best_error))


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """The result of a run.

    Attributes:
        final: The last sample: all finished epochs.
        curve: Samples at 0.2 h and every 0.1 h, at least 20 over the run, the last of them ``final``.
        best_trial: The trial with the lowest error.
        unfinished_ops: Operations of epochs that were cut off; never part of the score.
        failed_ops: Operations of failed trials; never part of the score.
    """

    final: Sample
    curve: tuple[Sample, ...]
    best_trial: int
    num_epochs: int
    unfinished_ops: int
    failed_ops: int


@dataclass(frozen=True, slots=True)
class _Work:
    """One finished epoch, seconds since the first trial's start; one of a failed trial passes time only."""

    t_s: float
    trial: int
    ops: int = 0
    error: float = math.inf
    is_error_floored: bool = False

    @property
    def scores(self) -> bool:
        return self.error < math.inf


def compute_score(history: RunHistory) -> Score | None:
    """Score of a run, finished or not; None before the first finished epoch of a trial that did not fail."""
    work = sorted(_work(history), key=lambda item: item.t_s)
    scoring = [item for item in work if item.scores]
    if not scoring or work[-1].t_s <= 0:
        return None
    curve = _sample(work, sample_times(scoring[0].t_s, work[-1].t_s))
    return Score(
        final=curve[-1],
        curve=curve,
        best_trial=min(scoring, key=lambda item: item.error).trial,
        num_epochs=len(scoring),
        unfinished_ops=_unfinished_ops(history),
        failed_ops=_failed_ops(history),
    )


def sample_times(first_epoch_s: float, end_s: float) -> tuple[float, ...]:
    """When the curve is sampled, in seconds since the first trial's start; the last is the end.

    At 0.2 h and every 0.1 h, from the first finished epoch on; a run too short for 20 such samples is divided
    evenly into 20 instead.
    """
    count = max(0, math.ceil((end_s - FIRST_SAMPLE_S) / SAMPLE_PERIOD_S - 1e-9))
    hourly = [FIRST_SAMPLE_S + i * SAMPLE_PERIOD_S for i in range(count)]
    times = [t_s for t_s in hourly if t_s >= first_epoch_s]
    if len(times) + 1 < MIN_SAMPLES and end_s > first_epoch_s:
        period_s = (end_s - first_epoch_s) / (MIN_SAMPLES - 1)
        times = [first_epoch_s + i * period_s for i in range(MIN_SAMPLES - 1)]
    return (*times, end_s)


def epoch_ops(trial: TrialClaimed, epoch: EpochFinished) -> int:
    """Operations of one finished epoch: images really processed times operations per image."""
    result = epoch.result
    return result.train_images * trial.train_ops + result.validation_images * trial.evaluation_ops


def floored_error(result: EpochResult) -> tuple[float, bool]:
    """Validation error as it enters the score, at least 1 / validation images, and whether it was raised."""
    floor = 1 / result.validation_images
    return max(result.error, floor), result.error < floor


def _work(history: RunHistory) -> Iterable[_Work]:
    start_s = history.start_s or 0.0
    for trial in history.trials.values():
        for timed in trial.epochs:
            if not trial.scores:
                yield _Work(timed.t_s - start_s, trial.number)
                continue
            error, is_floored = floored_error(timed.finished.result)
            yield _Work(
                timed.t_s - start_s,
                trial.number,
                ops=epoch_ops(trial.claimed, timed.finished),
                error=error,
                is_error_floored=is_floored,
            )


def _sample(work: Sequence[_Work], times: Sequence[float]) -> tuple[Sample, ...]:
    """The score at each of ``times``, the first of which is not before the first scoring epoch."""
    samples: list[Sample] = []
    total, best, done = 0, work[0], 0
    for t_s in times:
        while done < len(work) and work[done].t_s <= t_s:
            total += work[done].ops
            best = min(best, work[done], key=lambda item: item.error)
            done += 1
        if work[done - 1].t_s > 0:
            samples.append(
                Sample(
                    t_s=t_s,
                    work_ops=total,
                    elapsed_s=work[done - 1].t_s,
                    best_error=best.error,
                    is_error_floored=best.is_error_floored,
                )
            )
    return tuple(samples)


def _unfinished_ops(history: RunHistory) -> int:
    return sum(
        trial.closed.unfinished_train_images * trial.claimed.train_ops
        + trial.closed.unfinished_validation_images * trial.claimed.evaluation_ops
        for trial in history.trials.values()
        if trial.closed is not None
    )


def _failed_ops(history: RunHistory) -> int:
    return sum(
        epoch_ops(trial.claimed, timed.finished)
        for trial in history.trials.values()
        if not trial.scores
        for timed in trial.epochs
    )
