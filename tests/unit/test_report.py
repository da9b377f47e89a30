from __future__ import annotations

from typing import Any

import msgspec
import pytest
from support.runs import TINY, WORKLOAD, RunBuilder, times

from aibench.api.events import Division, EndReason, Lineage, Outcome
from aibench.journal import Record
from aibench.score.history import RunHistory
from aibench.score.report import (
    ErrorPoint,
    Report,
    ScoreReport,
    SharesReport,
    TrialReport,
    TurnaroundReport,
    build_report,
)


def report_of(run: RunBuilder | tuple[Record, ...]) -> Report:
    return build_report(RunHistory.of(run.records if isinstance(run, RunBuilder) else run))


def one_worker() -> RunBuilder:
    return RunBuilder().start(config={"seed": 4}, seed=4).join("w0", t_s=5.0).barrier()


def whole_run() -> tuple[Record, ...]:
    """Two trials on one worker between 10 s and 110 s: 3,000 + 2,000 + 2,000 operations, made up."""
    builder = one_worker().claim(epochs=2, train_ops=2, evaluation_ops=10, t_s=10.0)
    builder.epoch(1, correct=60, ranks=[times(40.0)], t_s=50.0)
    builder.claim(
        train_ops=2,
        evaluation_ops=0,
        lineage=Lineage(origin="random", parent="aa", morphs=("widen",)),
        hyper_parameters={"momentum": 0.9},
        t_s=60.0,
    )
    builder.epoch(1, correct=50, train_images=500, ranks=[times(30.0)], t_s=80.0).close(1)
    builder.epoch(2, correct=75, train_images=1_000, ranks=[times(20.0)], t_s=110.0)
    return builder.close(2, Outcome.INTERRUPTED, reason="the run ended").end(detail="enough", t_s=120.0)


def test_a_report_says_which_run_it_is_of() -> None:
    records = whole_run()
    report = report_of(records)
    assert (report.format, report.run, report.aibench_version) == ("aibench-report/1", "run", "0.1.0")
    assert (report.rules_version, report.division) == ("aiperf-v1", "open")
    assert (report.end_reason, report.end_detail) == ("time_limit", "enough")
    assert report.started_utc == "2026-01-01T00:00:00.000+00:00"
    assert (report.seed, report.config, report.workload) == (4, {"seed": 4}, WORKLOAD)
    assert (report.num_records, report.seal) == (len(records), records[-1].hash)


def test_a_report_tells_the_score() -> None:
    report = report_of(whole_run())
    assert report.score is not None
    assert report.score.normalized_ops_per_s == pytest.approx(97.0406053)
    assert report.score == ScoreReport(
        ops_per_s=70.0,
        normalized_ops_per_s=report.score.normalized_ops_per_s,
        error=0.25,
        is_error_floored=False,
        best_trial=2,
        work_ops=7000,
        elapsed_s=100.0,
        num_epochs=3,
        unfinished_ops=0,
        failed_ops=0,
    )
    assert len(report.curve) == 20
    first = report.curve[0]
    assert (first.t_s, first.ops_per_s, first.error) == (40.0, 75.0, 0.4)
    assert first.normalized_ops_per_s == pytest.approx(68.7218049)
    assert report.curve[-1].normalized_ops_per_s == report.score.normalized_ops_per_s
    assert report.stability is None, "three epochs say nothing of steadiness"


def test_a_report_lists_every_epoch_with_the_best_so_far() -> None:
    assert report_of(whole_run()).errors == (
        ErrorPoint(t_s=40.0, trial=1, error=0.4, best_error=0.4),
        ErrorPoint(t_s=70.0, trial=1, error=0.5, best_error=0.4),
        ErrorPoint(t_s=100.0, trial=2, error=0.25, best_error=0.25),
    )


def test_epochs_of_several_trials_are_listed_in_order_of_time_without_failed_ones() -> None:
    builder = one_worker().claim(t_s=5.0).claim().claim()
    builder.epoch(3, correct=99, t_s=6.0).epoch(2, correct=50, t_s=7.0).epoch(1, correct=60, t_s=8.0)
    errors = report_of(builder.close(3, Outcome.FAILED)).errors
    assert [(point.trial, point.best_error) for point in errors] == [(2, 0.5), (1, 0.4)]


def test_a_report_lists_the_trials() -> None:
    first, second = report_of(whole_run()).trials
    assert second == TrialReport(
        trial=2,
        worker="w0",
        round=1,
        outcome="interrupted",
        reason="the run ended",
        epochs=1,
        finished_epochs=1,
        error=0.25,
        claimed_s=50.0,
        closed_s=100.0,
        parameters=10,
        train_ops=2,
        hyper_parameters={"momentum": 0.9},
        architecture_hash=TINY.content_hash,
        origin="random",
        parent="aa",
        morphs=("widen",),
    )
    assert (first.outcome, first.error, first.finished_epochs, first.closed_s) == ("completed", 0.4, 2, 70.0)


def test_a_leased_trial_is_running() -> None:
    (trial,) = report_of(one_worker().claim(t_s=10.0)).trials
    assert (trial.outcome, trial.closed_s, trial.error, trial.finished_epochs) == ("running", None, None, 0)


def test_a_report_lists_shares_for_all_and_for_every_worker() -> None:
    builder = one_worker().join("w10").join("w2", ranks=2).claim("w0", t_s=10.0)
    builder.epoch(1, ranks=[times(75.0, communication_s=None)], t_s=110.0)
    total, *workers = report_of(builder).shares
    assert isinstance(total, SharesReport)
    assert [shares.worker for shares in (total, *workers)] == [None, "w0", "w2", "w10"]
    assert total.fractions["compute"] == 75 / 400
    assert total.fractions["idle"] == 325 / 400
    assert [shares.fractions["compute"] for shares in workers] == [0.75, 0.0, 0.0]
    assert [shares.communication_is_separate for shares in (total, *workers)] == [False, False, True, True]
    assert report_of(builder).overhead == pytest.approx(325 / 400)


def test_a_report_says_which_workers_are_lost() -> None:
    builder = RunBuilder().start().join("w1").join("w0", ranks=2).lose("w1")
    assert [(w.worker, len(w.devices), w.is_lost) for w in report_of(builder).workers] == [
        ("w0", 2, False),
        ("w1", 1, True),
    ]


def test_the_verdict_is_that_of_the_findings() -> None:
    report = report_of(whole_run())
    assert report.verdict == "invalid"
    assert [finding.actual for finding in report.findings if finding.passed is False] == [
        "not so in trials 1, 2"
    ]
    builder = RunBuilder().start(Division.CLOSED).join().barrier().claim(t_s=0.0)
    assert report_of(builder.epoch(correct=90, t_s=3600.0).close().end()).verdict == "closed"
    report = report_of(builder_of_a_short_run().end())
    assert report.verdict == "invalid"
    assert [finding.rule for finding in report.findings if finding.passed is False] == ["measured-time"]


def builder_of_a_short_run() -> RunBuilder:
    builder = RunBuilder().start(Division.CLOSED).join().barrier().claim(t_s=0.0)
    return builder.epoch(correct=90, t_s=3599.0).close()


def test_a_run_that_goes_on_has_no_seal() -> None:
    report = report_of(builder_of_a_short_run())
    assert (report.seal, report.end_reason, report.end_detail) == (None, None, "")
    assert report.verdict == "invalid"


def test_a_run_that_trained_nothing_is_reported_too() -> None:
    report = report_of(one_worker().end(reason=EndReason.NO_WORKERS, detail="none is left"))
    assert (report.score, report.stability, report.overhead, report.turnaround) == (None, None, None, None)
    assert [len(part) for part in (report.curve, report.errors, report.shares, report.trials)] == [0] * 4
    assert report.verdict == "invalid"
    assert (report.end_reason, report.end_detail) == ("no_workers", "none is left")


def test_a_report_carries_the_tree_and_the_predictions() -> None:
    report = report_of(whole_run())
    assert [(n.trials, n.error, n.is_on_best_line) for n in report.tree.networks] == [((1, 2), 0.25, True)]
    assert (report.predictions.search.num_pairs, report.predictions.curve.num_pairs) == (0, 0)
    nothing = report_of(one_worker())
    assert (nothing.tree.num_networks, nothing.tree.networks) == (0, ())


# Turnaround -------------------------------------------------------------------------------------------


def test_turnaround_is_from_a_trials_end_to_the_nexts_first_step() -> None:
    builder = one_worker().claim(t_s=10.0).epoch(1, ranks=[times(50.0)], t_s=60.0).close(1, t_s=61.0)
    # 20 s before it arrived the epoch's first step was taken: at 64 s, 3 s after the end at 61 s.
    rank = times(10.0, startup_s=3.0, data_wait_s=4.0, communication_s=1.0, validation_s=5.0)
    builder.claim(t_s=61.0).epoch(2, ranks=[rank], t_s=84.0).close(2)
    builder.claim().epoch(3, ranks=[times(20.0)], t_s=105.0).close(3)
    assert report_of(builder).turnaround == TurnaroundReport(count=2, median_s=2.0, max_s=3.0)


def test_the_longest_of_its_ranks_tells_when_an_epoch_began() -> None:
    builder = RunBuilder().start().join(ranks=2).barrier().claim(t_s=0.0)
    builder.epoch(1, t_s=10.0).close().claim()
    builder.epoch(2, ranks=[times(4.0), times(8.0, communication_s=None)], t_s=20.0)
    assert report_of(builder).turnaround == TurnaroundReport(count=1, median_s=2.0, max_s=2.0)


def test_a_trial_claimed_ahead_has_no_negative_turnaround() -> None:
    builder = one_worker().claim(t_s=10.0).claim(t_s=20.0).epoch(1, t_s=50.0).close(1, t_s=51.0)
    builder.epoch(2, ranks=[times(30.0)], t_s=80.0)
    assert report_of(builder).turnaround == TurnaroundReport(count=1, median_s=0.0, max_s=0.0)


def test_workers_turn_around_on_their_own() -> None:
    builder = one_worker().join("w1").claim("w0", t_s=10.0).claim("w1", t_s=10.0)
    builder.epoch(1, t_s=20.0).close(1).epoch(2, t_s=50.0).close(2)
    builder.claim("w0").claim("w1").epoch(3, ranks=[times(1.0)], t_s=61.0).epoch(4, t_s=70.0)
    # w0 from 20 to 60 s, w1 from 50 to 70 s.
    assert report_of(builder).turnaround == TurnaroundReport(count=2, median_s=30.0, max_s=40.0)


def test_a_report_is_written_and_read_without_loss() -> None:
    report = report_of(whole_run())
    assert msgspec.json.decode(msgspec.json.encode(report), type=Report) == report


def test_work_beyond_64_bits_is_written_exactly() -> None:
    builder = one_worker().claim(train_ops=2**62, evaluation_ops=1, t_s=10.0).epoch(t_s=20.0)
    written: Any = msgspec.json.decode(msgspec.json.encode(report_of(builder)))
    assert written["score"]["work_ops"] == 4611686018427387904000 + 100
