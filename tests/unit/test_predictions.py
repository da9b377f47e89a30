import pytest
from support.runs import RunBuilder

from aibench.api.events import Lineage, Outcome
from aibench.score.history import RunHistory
from aibench.score.predictions import (
    PredictionPair,
    PredictionsReport,
    build_predictions,
    figures_text,
    rank_correlation,
)


def predictions_of(builder: RunBuilder) -> PredictionsReport:
    return build_predictions(RunHistory.of(builder.records))


def predicted_run(predicted: list[float], correct: list[int]) -> RunBuilder:
    builder = RunBuilder().start().join().barrier()
    for trial, (error, right) in enumerate(zip(predicted, correct, strict=True), start=1):
        builder.claim(lineage=Lineage(origin="network_morphism", predicted_error=error))
        builder.epoch(trial, correct=right).close(trial)
    return builder


def test_the_search_s_prediction_stands_against_the_best_error() -> None:
    builder = RunBuilder().start().join().barrier()
    builder.claim(epochs=2, lineage=Lineage(origin="network_morphism", predicted_error=0.25))
    builder.epoch(1, correct=60).epoch(1, correct=50).close(1)
    series = predictions_of(builder).search
    assert series.pairs == (PredictionPair(trial=1, predicted_error=0.25, achieved_error=0.4),)
    assert (series.num_pairs, series.mean_absolute_error, series.rank_correlation) == (1, None, None)


@pytest.mark.parametrize(
    ("epochs", "predicted"), [(1, None), (2, 0.1), (3, 0.1), (4, 0.2), (5, 0.2), (6, 0.3)]
)
def test_the_curve_s_prediction_is_that_of_the_middle(epochs: int, predicted: float | None) -> None:
    builder = RunBuilder().start().join().barrier().claim(epochs=epochs)
    for epoch in range(1, epochs + 1):
        builder.epoch(correct=90, predicted_error=epoch / 10)
    pairs = predictions_of(builder.close()).curve.pairs
    assert [pair.predicted_error for pair in pairs] == ([] if predicted is None else [predicted])


def test_only_completed_trials_with_a_prediction_count() -> None:
    lineage = Lineage(origin="network_morphism", predicted_error=0.5)
    builder = RunBuilder().start().join().barrier()
    outcomes = [Outcome.COMPLETED, *(o for o in Outcome if o is not Outcome.COMPLETED)]
    for trial, outcome in enumerate(outcomes, start=1):
        epochs = 3 if outcome is Outcome.STOPPED else 2
        builder.claim(epochs=epochs, lineage=lineage).epoch(trial, predicted_error=0.3)
        builder.epoch(trial, predicted_error=None).close(trial, outcome)
    builder.claim(epochs=2).epoch(6).epoch(6).close(6).claim(lineage=lineage).epoch(7)
    found = predictions_of(builder)
    assert [pair.trial for pair in found.search.pairs] == [1]
    assert [pair.trial for pair in found.curve.pairs] == [1]


def test_figures_need_five_pairs() -> None:
    # Off by 11, 8, 3, 4 and 5 points; ranks 1 2 3 4 5 against 2 1 3 4 5: 1 - 6·2 / (5·24) = 0.9.
    builder = predicted_run([0.10, 0.20, 0.30, 0.40, 0.50], [79, 88, 67, 56, 55])
    assert [pair.achieved_error for pair in predictions_of(builder).search.pairs] == pytest.approx(
        [0.21, 0.12, 0.33, 0.44, 0.45]
    )
    series = predictions_of(builder).search
    assert series.mean_absolute_error == pytest.approx(0.062)
    assert series.rank_correlation == pytest.approx(0.9)
    assert figures_text(series) == (
        "6.20 percentage points off on average, rank correlation 0.90 (5 completed trials)"
    )
    four = predictions_of(predicted_run([0.1, 0.2, 0.3, 0.4], [90, 80, 70, 60])).search
    assert (four.mean_absolute_error, four.rank_correlation) == (None, None)
    assert figures_text(four) == "too few to judge (4 completed trials)"
    assert figures_text(predictions_of(predicted_run([], [])).search) == "none made"


def test_predictions_beyond_an_error_are_held_to_one() -> None:
    pairs = predictions_of(predicted_run([7.5, -0.5], [90, 90])).search.pairs
    assert [pair.predicted_error for pair in pairs] == [1.0, 0.0]


def test_equal_predictions_have_no_rank_correlation() -> None:
    series = predictions_of(predicted_run([0.5] * 5, [50, 60, 70, 80, 90])).search
    assert series.rank_correlation is None
    assert "rank correlation undefined" in figures_text(series)


def test_ties_take_their_mean_rank() -> None:
    assert rank_correlation([1.0, 2.0, 3.0], [10.0, 100.0, 1000.0]) == pytest.approx(1.0)
    assert rank_correlation([1.0, 2.0, 3.0], [3.0, 2.0, 1.0]) == pytest.approx(-1.0)
    # Ranks 0.5 0.5 2 3 against 0 1 2 3: 4.5 / sqrt(4.5 · 5).
    assert rank_correlation([7.0, 7.0, 8.0, 9.0], [1.0, 2.0, 3.0, 4.0]) == pytest.approx(0.9486833)


def test_a_long_run_lists_an_even_choice_of_pairs() -> None:
    series = predictions_of(predicted_run([0.5] * 1000, [50] * 1000)).search
    assert (series.num_pairs, len(series.pairs)) == (1000, 500)
    assert [pair.trial for pair in series.pairs[:3]] == [1, 3, 5]
