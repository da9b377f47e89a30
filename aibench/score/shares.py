"""Where the time of the accelerators went: shares of the measured window that add up to 100 %."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from aibench.api.clock import RankTimes
from aibench.api.events import Outcome
from aibench.score.history import RunHistory, TrialHistory, WorkerHistory


class Share(StrEnum):
    """What a second of one accelerator was spent on."""

    COMPUTE = "compute"
    DATA_WAIT = "data_wait"
    COMMUNICATION = "communication"
    VALIDATION = "validation"
    STARTUP = "startup"
    SEARCH_WAIT = "search_wait"
    UNFINISHED = "unfinished"
    """Epochs that the end of the run cut off."""
    LOST = "lost"
    """Failed trials, epochs cut off by a failure, and a lost worker's absence."""
    IDLE = "idle"
    """The rest."""


USEFUL = (Share.COMPUTE, Share.DATA_WAIT, Share.COMMUNICATION, Share.VALIDATION, Share.UNFINISHED)


@dataclass(frozen=True, kw_only=True, slots=True)
class TimeShares:
    """Accelerator seconds of one worker, or of all, between the first trial's start and the last epoch.

    Attributes:
        seconds: Per share, over all ranks; they add up to the window times the ranks, plus ``overbooked_s``.
        first_startup_s: The part of start-up that belongs to the first trial of a worker's life: imports and
            first use of the device, paid once.
        overbooked_s: Seconds that ranks booked beyond the window: 0 but for rounding, or the journal lies.
        communication_is_separate: Whether every rank could tell communication from compute.
    """

    seconds: dict[Share, float]
    first_startup_s: float
    overbooked_s: float
    communication_is_separate: bool

    @property
    def fractions(self) -> dict[Share, float]:
        """Shares of the whole; they add up to 1 unless nothing was measured."""
        total_s = sum(self.seconds.values())
        return {share: spent_s / total_s if total_s else 0.0 for share, spent_s in self.seconds.items()}

    @property
    def overhead(self) -> float:
        """Share of time neither training nor validating, after the first trial's start-up."""
        total_s = sum(self.seconds.values()) - self.first_startup_s
        useful_s = sum(self.seconds[share] for share in USEFUL)
        return 1.0 - useful_s / total_s if total_s else 0.0


def worker_shares(history: RunHistory) -> dict[str, TimeShares]:
    """Time shares of every worker; empty before the first finished epoch."""
    start_s = history.start_s
    ends = [trial.epochs[-1].t_s for trial in history.trials.values() if trial.epochs]
    if start_s is None or not ends:
        return {}
    window = (start_s, max(ends))
    trials: dict[str, list[TrialHistory]] = defaultdict(list)
    for trial in history.trials.values():
        trials[trial.claimed.worker].append(trial)
    return {name: _shares(worker, trials[name], window) for name, worker in history.workers.items()}


def total_shares(parts: dict[str, TimeShares]) -> TimeShares:
    """Sum over workers."""
    return TimeShares(
        seconds={share: sum(part.seconds[share] for part in parts.values()) for share in Share},
        first_startup_s=sum(part.first_startup_s for part in parts.values()),
        overbooked_s=sum(part.overbooked_s for part in parts.values()),
        communication_is_separate=all(part.communication_is_separate for part in parts.values()),
    )


def _shares(worker: WorkerHistory, trials: list[TrialHistory], window: tuple[float, float]) -> TimeShares:
    num_ranks = len(worker.joined.devices)
    seconds = dict.fromkeys(Share, 0.0)
    for share, spent_s in _booked(worker, trials, window, num_ranks):
        seconds[share] += spent_s
    remainder_s = (window[1] - window[0]) * num_ranks - sum(seconds.values())
    seconds[Share.IDLE] = max(0.0, remainder_s)
    return TimeShares(
        seconds=seconds,
        first_startup_s=_first_startup_s(trials),
        overbooked_s=max(0.0, -remainder_s),
        communication_is_separate=all(
            times.communication_s is not None
            for trial in trials
            for timed in trial.epochs
            for times in timed.finished.result.ranks
        ),
    )


def _first_startup_s(trials: list[TrialHistory]) -> float:
    incarnations: set[str] = set()
    total_s = 0.0
    for trial in trials:
        if trial.scores and trial.epochs and trial.claimed.incarnation not in incarnations:
            incarnations.add(trial.claimed.incarnation)
            total_s += sum(times.startup_s for times in trial.epochs[0].finished.result.ranks)
    return total_s


def _booked(
    worker: WorkerHistory, trials: list[TrialHistory], window: tuple[float, float], num_ranks: int
) -> Iterator[tuple[Share, float]]:
    free_from_s = window[0]
    for trial in trials:
        began_s = max(trial.claimed_s, free_from_s)
        free_from_s = window[1] if trial.closed_s is None else trial.closed_s
        if not trial.scores:
            yield Share.LOST, _overlap((began_s, free_from_s), window) * num_ranks
            continue
        for timed in trial.epochs:
            yield Share.SEARCH_WAIT, timed.finished.search_wait_s * num_ranks
            for times in timed.finished.result.ranks:
                yield from _phases(times)
        cut_off = (trial.epochs[-1].t_s if trial.epochs else began_s, free_from_s)
        if trial.closed is None or trial.closed.outcome is Outcome.INTERRUPTED:
            yield Share.UNFINISHED, _overlap(cut_off, window) * num_ranks
        elif trial.closed.outcome is Outcome.LOST:
            yield Share.LOST, _overlap(cut_off, window) * num_ranks
    away = [*worker.away_s, *([(worker.lost_s, window[1])] if worker.lost_s is not None else [])]
    for span in away:
        yield Share.LOST, _overlap(span, window) * num_ranks


def _phases(times: RankTimes) -> Iterator[tuple[Share, float]]:
    yield Share.STARTUP, times.startup_s
    yield Share.COMPUTE, times.compute_s
    yield Share.DATA_WAIT, times.data_wait_s
    yield Share.COMMUNICATION, times.communication_s or 0.0
    yield Share.VALIDATION, times.validation_s


def _overlap(span: tuple[float, float], window: tuple[float, float]) -> float:
    return max(0.0, min(span[1], window[1]) - max(span[0], window[0]))
