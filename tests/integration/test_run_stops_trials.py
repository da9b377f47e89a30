from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from aibench.journal import read_journal
from aibench.score.history import RunHistory
from aibench.score.report import build_report

EPOCHS = 10


def test_stalled_trials_are_stopped_and_the_run_goes_on(
    make_run: Callable[..., Any], aibench: Callable[..., Any]
) -> None:
    run = make_run(
        workers=[{"count": 1, "ranks": 2, "device": "cpu", "oversubscribe": True}],
        limits={"trials": 3},
        epochs={"warmup": [3], "full": EPOCHS},
        search={"architecture": "none", "hyper_parameters": "random", "patience_epochs": 1},
    )
    run.start()
    status, output = run.finish()
    assert status == 0, output

    history = RunHistory.of(read_journal(run.root / "journal.jsonl").require_intact())
    outcomes = Counter(trial.closed.outcome.value for trial in history.closed_trials if trial.closed)
    assert outcomes["stopped"] >= 1
    assert outcomes["failed"] == outcomes["lost"] == 0
    for trial in history.closed_trials:
        if trial.closing_reason:
            assert trial.closing_reason == "stalled: no better error in 1 epochs"
            assert 3 <= len(trial.epochs) < EPOCHS, "two to see it, and the one in progress"
    report = build_report(history)
    assert report.verdict == "smoke"
    assert report.score is not None
    assert report.score.num_epochs == sum(len(trial.epochs) for trial in history.trials.values())
    for shares in report.shares:
        assert sum(shares.fractions.values()) == pytest.approx(1.0)
        assert shares.fractions["unfinished"] == shares.fractions["lost"] == 0.0
    assert any(event["predicted_error"] is not None for event in run.events("epoch_finished"))
    verified = aibench("verify", run.root)
    assert verified.returncode == 0, verified.stdout
    assert "stopped" in (run.root / "report.html").read_text()
