"""How long workers take from one trial to the next."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from aibench.score.history import RunHistory, TrialHistory


def turnarounds_s(history: RunHistory) -> Iterator[float]:
    """Seconds from the end of each trial to the first step of the next one of the same worker's life."""
    last_closed_s: dict[tuple[str, str], float | None] = defaultdict(lambda: None)
    for trial in history.trials.values():
        life = (trial.claimed.worker, trial.claimed.incarnation)
        before_s = last_closed_s[life]
        if trial.epochs and before_s is not None:
            yield max(0.0, _first_step_s(trial) - before_s)
        last_closed_s[life] = trial.closed_s


def _first_step_s(trial: TrialHistory) -> float:
    """The first epoch's arrival less the time its ranks spent in it after start-up."""
    first = trial.epochs[0]
    return first.t_s - max(
        times.compute_s + times.data_wait_s + (times.communication_s or 0.0) + times.validation_s
        for times in first.finished.result.ranks
    )
