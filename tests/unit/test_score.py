from __future__ import annotations

import math

import pytest
from support.runs import RunBuilder

from aibench.api.events import Outcome
from aibench.score.history import RunHistory
from aibench.score.report import build_report
from aibench.score.score import Sample, Score, compute_score, sample_times


def ready() -> RunBuilder:
    return RunBuilder().start().join("w0").join("w1").barrier(t_s=1.0)


def score_of(builder: RunBuilder) -> Score:
    score = compute_score(RunHistory.of(builder.records))
    assert score is not None
    return score


def two_workers() -> RunBuilder:
    """Starts at 10 s, ends at 210 s; 320 + 3,200 + 290 = 3,810 operations.

    ==== ===== ================================== =====
    at s trial operations                         error
    ==== ===== ================================== =====
    110  1     100 · 3 + 20 · 1 = 320             0.50
    150  2     100 · 30 + 20 · 10 = 3,200         0.40
    210  1     90 · 3 + 20 · 1 = 290              0.25
    ==== ===== ================================== =====
    """
    builder = ready()
    builder.claim("w0", epochs=2, train_ops=3, evaluation_ops=1, t_s=10.0)
    builder.claim("w1", epochs=2, train_ops=30, evaluation_ops=10, t_s=12.0)
    builder.epoch(1, train_images=100, validation_images=20, correct=10, t_s=110.0)
    builder.epoch(2, train_images=100, validation_images=20, correct=12, t_s=150.0)
    return builder.epoch(1, train_images=90, validation_images=20, correct=15, t_s=210.0)


def test_the_score_of_two_workers_as_computed_by_hand() -> None:
    score = score_of(two_workers())
    assert score.final.work_ops == 3810
    assert score.final.elapsed_s == 200.0
    assert score.final.ops_per_s == 19.05
    assert score.final.best_error == 0.25
    assert score.final.normalized_ops_per_s == pytest.approx(26.4089076, rel=1e-8)
    assert (score.best_trial, score.num_epochs) == (1, 3)


def test_the_curve_tells_the_score_as_it_stood() -> None:
    curve = score_of(two_workers()).curve
    assert len(curve) == 20
    assert curve[0] == Sample(
        t_s=100.0, work_ops=320, elapsed_s=100.0, best_error=0.5, is_error_floored=False
    )
    assert curve[0].ops_per_s == 3.2
    assert curve[0].normalized_ops_per_s == pytest.approx(2.21807098, rel=1e-8)
    # 19 steps of 100/19 s: the eighth sample, at 136.8 s, sees one epoch, the ninth, at 142.1 s, two.
    assert [sample.work_ops for sample in curve] == [320] * 8 + [3520] * 11 + [3810]
    assert [sample.elapsed_s for sample in curve] == [100.0] * 8 + [140.0] * 11 + [200.0]
    assert [sample.best_error for sample in curve] == [0.5] * 8 + [0.4] * 11 + [0.25]
    assert curve[-1].t_s == 200.0


def test_the_result_is_the_last_sample() -> None:
    score = score_of(two_workers())
    assert score.final is score.curve[-1]


def test_work_is_an_exact_integer_at_any_size() -> None:
    builder = ready().claim(train_ops=2**60 + 1, evaluation_ops=1, t_s=0.0)
    builder.epoch(train_images=2**20, validation_images=1, correct=0, t_s=1.0)
    assert score_of(builder).final.work_ops == 2**80 + 2**20 + 1


@pytest.mark.parametrize(
    ("correct", "images", "error", "factor"),
    [
        pytest.param(70, 100, 0.30, 1.2039728, id="30 %"),
        pytest.param(75, 100, 0.25, 1.3862944, id="25 %"),
        pytest.param(0, 100, 1.0, 0.0, id="nothing right"),
        pytest.param(99, 100, 0.01, 4.6051702, id="99 %"),
    ],
)
def test_the_error_weighs_by_its_logarithm(correct: int, images: int, error: float, factor: float) -> None:
    builder = ready().claim(train_ops=10, evaluation_ops=1, t_s=0.0)
    builder.epoch(train_images=990, validation_images=images, correct=correct, t_s=100.0)
    final = score_of(builder).final
    assert final.ops_per_s == 100.0
    assert final.best_error == error
    assert final.normalized_ops_per_s == pytest.approx(100 * factor, rel=1e-7)
    assert not final.is_error_floored


def test_no_error_at_all_stands_at_one_image_and_says_so() -> None:
    builder = ready().claim(train_ops=10, evaluation_ops=1, t_s=0.0)
    builder.epoch(train_images=990, validation_images=100, correct=100, t_s=100.0)
    final = score_of(builder).final
    assert (final.best_error, final.is_error_floored) == (0.01, True)
    assert final.normalized_ops_per_s == pytest.approx(460.51702, rel=1e-7)


def test_a_floor_does_not_displace_a_lower_error() -> None:
    builder = ready().claim(epochs=2, t_s=0.0)
    builder.epoch(validation_images=100, correct=95, t_s=10.0)
    builder.epoch(validation_images=2, correct=2, t_s=20.0)
    assert [sample.best_error for sample in score_of(builder).curve] == [0.05] * 20
    assert not score_of(builder).final.is_error_floored


def test_the_best_error_never_gets_worse() -> None:
    builder = ready().claim(epochs=3, t_s=0.0)
    builder.epoch(correct=60, t_s=10.0).epoch(correct=80, t_s=20.0).epoch(correct=10, t_s=30.0)
    curve = score_of(builder).curve
    assert [sample.best_error for sample in curve] == [0.4] * 10 + [0.2] * 10


def test_the_first_trial_to_reach_the_lowest_error_is_the_best() -> None:
    builder = ready().claim("w0", t_s=0.0).claim("w1", t_s=0.0)
    builder.epoch(2, correct=80, t_s=10.0).epoch(1, correct=80, t_s=20.0)
    assert score_of(builder).best_trial == 2


def test_a_failed_trial_scores_nothing_and_is_counted_apart() -> None:
    builder = two_workers().close(2, Outcome.FAILED, unfinished=(7, 0))
    score = score_of(builder)
    assert score.final.work_ops == 610
    assert score.final.ops_per_s == 3.05
    assert score.failed_ops == 3200
    assert score.unfinished_ops == 210
    assert score.num_epochs == 2
    assert score.curve[0].best_error == 0.5


def test_the_error_of_a_failed_trial_does_not_count() -> None:
    score = score_of(two_workers().close(1, Outcome.FAILED))
    assert (score.final.best_error, score.best_trial) == (0.4, 2)
    assert (score.final.work_ops, score.final.elapsed_s) == (3200, 200.0)
    assert score.failed_ops == 610


@pytest.mark.parametrize("outcome", [Outcome.LOST, Outcome.INTERRUPTED])
def test_lost_and_interrupted_trials_keep_their_finished_epochs(outcome: Outcome) -> None:
    score = score_of(two_workers().close(2, outcome, unfinished=(50, 0)))
    assert score.final == score_of(two_workers()).final
    assert (score.unfinished_ops, score.failed_ops) == (1500, 0)


def test_unfinished_operations_are_exact_and_apart() -> None:
    builder = two_workers()
    builder.close(1, Outcome.INTERRUPTED, unfinished=(33, 5)).close(2, Outcome.LOST, unfinished=(2, 1))
    score = score_of(builder)
    assert score.unfinished_ops == 174  # 33 · 3 + 5 · 1 + 2 · 30 + 1 · 10
    assert score.final.work_ops == 3810


def test_there_is_no_score_without_a_finished_epoch() -> None:
    assert compute_score(RunHistory.of(ready().records)) is None
    assert compute_score(RunHistory.of(ready().claim().records)) is None
    assert compute_score(RunHistory.of(ready().claim().epoch(t_s=9.0).close(1, Outcome.FAILED).end())) is None


def test_there_is_no_score_in_no_time() -> None:
    assert compute_score(RunHistory.of(ready().claim(t_s=5.0).epoch(t_s=5.0).records)) is None


def test_one_epoch_is_one_sample() -> None:
    builder = ready().claim(t_s=10.0).epoch(t_s=40.0)
    assert [sample.t_s for sample in score_of(builder).curve] == [30.0]


def test_a_running_run_has_the_score_of_its_finished_epochs() -> None:
    running = score_of(two_workers())
    ended = two_workers().close(1).close(2, Outcome.INTERRUPTED)
    ended.end(t_s=500.0)
    assert score_of(ended) == running


def test_a_short_run_is_sampled_evenly_twenty_times() -> None:
    assert sample_times(10.0, 200.0) == (
        10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0, 100.0,
        110.0, 120.0, 130.0, 140.0, 150.0, 160.0, 170.0, 180.0, 190.0, 200.0,
    )  # fmt: skip


def test_a_long_run_is_sampled_at_0_2_h_and_every_0_1_h() -> None:
    assert sample_times(300.0, 7900.0) == (
        720.0, 1080.0, 1440.0, 1800.0, 2160.0, 2520.0, 2880.0, 3240.0, 3600.0, 3960.0,
        4320.0, 4680.0, 5040.0, 5400.0, 5760.0, 6120.0, 6480.0, 6840.0, 7200.0, 7560.0, 7900.0,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("end_s", "num_samples", "last_but_one_s"), [(7560.0, 20, 7200.0), (7561.0, 21, 7560.0)]
)
def test_a_sample_time_at_the_end_is_the_end(end_s: float, num_samples: int, last_but_one_s: float) -> None:
    found = sample_times(300.0, end_s)
    assert len(found) == num_samples
    assert found[-2:] == (last_but_one_s, end_s)


def test_a_run_one_sample_short_of_twenty_is_sampled_evenly() -> None:
    found = sample_times(300.0, 7200.0)
    assert len(found) == 20
    assert found[0] == 300.0
    assert found[1] == pytest.approx(663.157895)
    assert found[-1] == 7200.0


def test_long_runs_are_sampled_from_their_first_epoch_on() -> None:
    found = sample_times(1000.0, 36_000.0)
    assert (found[0], found[-2], found[-1]) == (1080.0, 35_640.0, 36_000.0)
    assert len(found) == 98


def test_samples_of_a_long_run_hold_what_was_finished_by_then() -> None:
    builder = ready().claim(epochs=80, train_ops=1, evaluation_ops=1, t_s=100.0)
    for number in range(1, 81):
        builder.epoch(train_images=5, validation_images=1, correct=0, t_s=100.0 + 100.0 * number)
    curve = score_of(builder).curve
    assert [(s.t_s, s.work_ops, s.elapsed_s) for s in curve[:2]] == [(720.0, 42, 700.0), (1080.0, 60, 1000.0)]
    assert (curve[-1].t_s, curve[-1].work_ops, curve[-1].elapsed_s) == (8000.0, 480, 8000.0)
    assert len(curve) == 22
    assert all(math.isclose(sample.ops_per_s, 0.06) for sample in curve)


def test_predictions_change_neither_score_nor_report_nor_verdict() -> None:
    def told(*, predicted: float | None) -> RunHistory:
        builder = ready().claim("w0", epochs=3, t_s=10.0).claim("w1", epochs=3)
        for t_s in (20.0, 30.0):
            builder.epoch(1, t_s=t_s, predicted_error=predicted).epoch(
                2, correct=60, predicted_error=predicted
            )
        builder.epoch(1, t_s=40.0).close(1, search_error=predicted)
        builder.close(2, Outcome.STOPPED, search_error=predicted)
        return RunHistory.of(builder.end(t_s=50.0))

    plain, predicting = told(predicted=None), told(predicted=0.001)
    assert predicting.trials[2].search_error == 0.001
    assert compute_score(predicting) == compute_score(plain)
    report, expected = build_report(predicting), build_report(plain)
    for part in ("score", "curve", "stability", "errors", "findings", "verdict", "shares", "turnaround"):
        assert getattr(report, part) == getattr(expected, part)
    assert [trial.error for trial in report.trials] == [0.5, 0.4]
