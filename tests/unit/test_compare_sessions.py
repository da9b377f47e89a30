from __future__ import annotations

import pytest

from aibench.cli.compare_sessions import _TrainingProgress
from aibench.trainer_pool import TrialRecord


def record(*, ops: int, error: float | None) -> TrialRecord:
    return TrialRecord(
        algorithm="random",
        seed=3,
        trial=1,
        ops=ops,
        processed_ops=ops,
        error=error,
        reason="",
        train_s=10.0,
        architecture_hash="",
        hyper_parameters={},
    )


def test_progress_estimates_the_time_left_from_the_first_trial_s_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    times_s = iter([110.0, 120.0])
    monkeypatch.setattr("aibench.cli.compare_sessions.time.monotonic", lambda: next(times_s))
    state = _TrainingProgress(100)
    assert state.add(record(ops=20, error=0.5)) == (
        "random, seed 3  1 trial trained  20 % done  about 40.0 s left"
    )
    assert state.add(record(ops=60, error=None)) == (
        "random, seed 3  2 trials trained (1 failed)  80 % done  about 5.00 s left"
    )


def test_trials_beyond_the_budget_leave_no_time() -> None:
    assert _TrainingProgress(100).add(record(ops=130, error=0.5)).endswith("100 % done  about 0.00 s left")
