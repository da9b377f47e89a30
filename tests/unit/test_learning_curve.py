import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aibench.search.learning_curve import Prediction, predict_end, predict_full

CURVES = Path(__file__).parents[1] / "data" / "learning_curves.json"
ERRORS = st.lists(st.integers(0, 50_000).map(lambda wrong: wrong / 50_000), min_size=1, max_size=60)


def test_three_epochs_lead_to_the_prediction_computed_by_hand() -> None:
    # Logarithms of 1, 2, 3 less their mean: squares add up to 0.617268, products with those of the errors to
    # -0.761501. Exponent (0.761501 + 0.3·0.1) / (0.617268 + 0.3) = 0.862890, deviation 0.35 / √0.917268 =
    # 0.365442. Four times the epochs: 0.2 · 4^-0.862890 and 0.2 · 4^-(0.862890 + 1.28·0.365442).
    predicted = predict_end([0.8, 0.4, 0.2], 12)
    assert predicted.error == pytest.approx(0.060467, abs=1e-6)
    assert predicted.optimistic_error == pytest.approx(0.031615, abs=1e-6)


def test_a_power_law_with_the_expected_exponent_goes_on() -> None:
    predicted = predict_end([0.5, 0.5 * 2**-0.1, 0.5 * 3**-0.1, 0.5 * 4**-0.1], 8)
    assert predicted.error == pytest.approx(0.5 * 8**-0.1)


def test_of_a_long_curve_the_latest_third_counts() -> None:
    late = [0.3, 0.28, 0.26, 0.24]
    assert predict_end([0.9] * 8 + late, 32) == predict_end([0.5] * 8 + late, 32)
    assert predict_end([0.9] * 8 + late, 32) != predict_end([0.9] * 8 + [0.29, 0.28, 0.26, 0.24], 32)


def test_an_epoch_worse_than_the_best_counts_as_the_best() -> None:
    assert predict_end([0.8, 0.4, 0.9, 0.3], 12) == predict_end([0.8, 0.4, 0.4, 0.3], 12)


@pytest.mark.parametrize("errors", [[0.5], [0.5, 0.25]])
def test_from_fewer_than_three_epochs_nothing_is_predicted(errors: list[float]) -> None:
    assert predict_end(errors, 9) == Prediction(error=errors[-1], optimistic_error=0.0)
    assert predict_full(errors, 2, 9) == errors[-1]


def test_a_flat_curve_is_expected_to_stay_flat_but_an_optimist_sees_it_fall() -> None:
    predicted = predict_end([0.9, 0.9, 0.9, 0.9], 8)
    assert predicted.error == 0.9
    assert predicted.optimistic_error < 0.7
    assert predict_full([0.9, 0.9, 0.95, 0.9], 4, 60) == 0.9


def test_late_in_a_trial_and_at_the_end_the_error_so_far_is_the_prediction() -> None:
    errors = [0.8 / epoch for epoch in range(1, 9)]
    assert predict_end(errors, 12).error < 0.1
    assert predict_end(errors, 11).error == 0.1
    assert predict_end(errors, 11).optimistic_error < 0.1
    assert predict_end(errors, 8) == Prediction(error=0.1, optimistic_error=0.1)


def test_no_error_stays_none() -> None:
    assert predict_end([0.1, 0.0, 0.0], 9) == Prediction(error=0.0, optimistic_error=0.0)
    assert predict_full([0.1, 0.0, 0.0], 3, 9) == 0.0


def test_a_whole_trial_is_carried_to_the_full_budget_by_one_exponent_alone() -> None:
    # 15 to 60 epochs: 4^-0.3 = 0.659754, however the curve ended.
    for errors in ([0.8, 0.4, *[0.2] * 13], [0.8 / epoch for epoch in range(1, 15)] + [0.01]):
        assert predict_full(errors, 15, 60) == pytest.approx(0.659754 * errors[-1], rel=1e-6)


def test_a_cut_off_trial_is_carried_to_its_own_end_first() -> None:
    # 0.060467 as above, then 0.659754 of it.
    assert predict_full([0.8, 0.4, 0.2], 12, 48) == pytest.approx(0.039893, abs=1e-6)


def test_a_smaller_full_budget_promises_nothing_below_what_was_reached() -> None:
    assert predict_full([0.8, 0.4, 0.2], 3, 2) == 0.2


@given(ERRORS, st.integers(1, 120), st.integers(1, 120))
def test_predictions_lie_between_zero_and_the_lowest_error(
    errors: list[float], epochs: int, full_epochs: int
) -> None:
    epochs = max(epochs, len(errors))
    predicted = predict_end(errors, epochs)
    assert 0.0 <= predicted.optimistic_error <= predicted.error <= min(errors)
    assert 0.0 <= predict_full(errors, epochs, full_epochs) <= min(errors)
    assert predict_end(errors, epochs) == predicted


def log_misses(question: str) -> tuple[float, float]:
    """Mean |ln(prediction / achieved)| over recorded trials: the prediction's, and the last best error's."""
    predicted_misses, plain_misses = [], []
    for candidate in json.loads(CURVES.read_text())["candidates"]:
        images = candidate["validation_images"]
        trials = {len(wrong): [number / images for number in wrong] for wrong in candidate["wrong"]}
        full = max(trials)
        for epochs, errors in trials.items():
            if question == "end":
                seen, achieved = errors[: epochs // 2], min(errors)
                predicted = predict_end(seen, epochs).error if len(seen) >= 3 else None
            else:
                seen, achieved = errors, min(trials[full])
                predicted = predict_full(seen, epochs, full) if 3 <= epochs < full else None
            if predicted is not None:
                predicted_misses.append(log_miss(predicted, achieved, images))
                plain_misses.append(log_miss(min(seen), achieved, images))
    return sum(predicted_misses) / len(plain_misses), sum(plain_misses) / len(plain_misses)


def log_miss(guess: float, achieved: float, images: int) -> float:
    return abs(math.log(max(guess, 1 / images) / max(achieved, 1 / images)))


@pytest.mark.parametrize(("question", "most"), [("end", 0.7), ("full", 0.9)])
def test_recorded_trials_are_predicted_better_than_by_their_last_best_error(
    question: str, most: float
) -> None:
    predicted, plain = log_misses(question)
    assert predicted < most * plain
