from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import pytest

from aibench.score.score import Sample
from aibench.score.statistics import RunsSummary, Stability, stability, summarize_runs

INVERSE_E = 0.36787944117144233  # -ln of it is 1: normalized score = score


def curve(values: Sequence[float], *, step_s: float = 360.0) -> list[Sample]:
    """Samples whose normalized scores are the values, every 0.1 h unless given."""
    return [
        Sample(
            t_s=step_s * place,
            work_ops=int(value) * place,
            elapsed_s=float(place),
            best_error=INVERSE_E,
            is_error_floored=False,
        )
        for place, value in enumerate(values, start=1)
    ]


def stability_of(values: Sequence[float], *, step_s: float = 360.0) -> Stability:
    stable = stability(curve(values, step_s=step_s))
    assert stable is not None
    return stable


def test_a_flat_curve_is_converged() -> None:
    flat = stability_of([1000] * 15)
    assert flat == Stability(num_samples=6, slope_per_hour=0.0, drift=0.0, spread=0.0)
    assert flat.is_converged


def test_only_the_last_third_counts() -> None:
    assert stability_of([1, 9000, 3, 7000, 5, 500, 10, 10_000, 1, *[1000] * 6]).is_converged


def test_a_rising_curve_is_not_converged() -> None:
    # The last third, 1.0 to 1.5 h, rises from 1,000 to 1,500: by its mean of 1,250 in an hour.
    rising = stability_of([*range(100, 1600, 100)])
    assert rising.num_samples == 6
    assert rising.slope_per_hour == pytest.approx(0.8)
    assert rising.drift == pytest.approx(0.4)
    assert rising.spread == pytest.approx(0.4)
    assert not rising.is_converged


def test_a_falling_curve_drifts_down() -> None:
    falling = stability_of([*range(1500, 0, -100)])
    assert falling.drift == pytest.approx(-500 / 350)
    assert not falling.is_converged


def test_a_drift_is_measured_over_the_third_however_long_it_is() -> None:
    assert stability_of([*range(100, 1600, 100)], step_s=36.0).slope_per_hour == pytest.approx(8.0)
    assert stability_of([*range(100, 1600, 100)], step_s=36.0).drift == pytest.approx(0.4)


def test_a_restless_curve_without_drift_is_not_converged() -> None:
    restless = stability_of([1000] * 9 + [970, 1030, 1000, 1000, 1030, 970])
    assert restless.drift == pytest.approx(0.0)
    assert restless.spread == pytest.approx(0.06)
    assert not restless.is_converged


@pytest.mark.parametrize(("last", "is_converged"), [(1020, True), (1060, False)])
def test_five_percent_is_the_bound(last: int, is_converged: bool) -> None:
    assert stability_of([1000] * 9 + [1000, 1004, 1008, 1012, 1016, last]).is_converged is is_converged


@pytest.mark.parametrize(
    ("drift", "spread", "is_converged"),
    [
        (0.05, 0.05, True),
        (-0.05, 0.05, True),
        (0.051, 0.0, False),
        (-0.051, 0.0, False),
        (0.0, 0.051, False),
    ],
)
def test_drift_and_spread_both_decide(drift: float, spread: float, is_converged: bool) -> None:
    steady = Stability(num_samples=5, slope_per_hour=0.0, drift=drift, spread=spread)
    assert steady.is_converged is is_converged


def test_a_third_of_fewer_than_five_samples_says_nothing() -> None:
    assert stability(curve([1000] * 11)) is None
    assert stability_of([1000] * 12).num_samples == 5


def test_samples_between_two_epochs_say_nothing_new() -> None:
    assert stability(curve([1000] * 15)) is not None
    assert stability([dataclasses.replace(s, elapsed_s=7.0) for s in curve([1000] * 15)]) is None


def test_a_score_of_nothing_is_neither_steady_nor_not() -> None:
    assert stability(curve([0] * 20)) is None


def test_the_olympic_mean_leaves_the_best_and_the_worst_out() -> None:
    # Squared deviations add up to 6,687.2; a quarter of that is 40.8877².
    found = summarize_runs([10.0, 100.0, 12.0, 1.0, 14.0])
    assert (found.num_runs, found.mean, found.olympic_mean) == (5, 27.4, 12.0)
    assert found.variation == pytest.approx(40.8877 / 27.4, rel=1e-5)


def test_only_one_of_several_best_is_left_out() -> None:
    assert summarize_runs([5.0, 5.0, 2.0, 2.0]).olympic_mean == 3.5


def test_the_variation_is_the_sample_standard_deviation_over_the_mean() -> None:
    # Deviations -2, 0, 2: variance 8 / 2 = 4, standard deviation 2.
    assert summarize_runs([8.0, 10.0, 12.0]).variation == pytest.approx(0.2)


def test_two_runs_have_no_olympic_mean() -> None:
    found = summarize_runs([9.0, 11.0])
    assert (found.num_runs, found.mean, found.olympic_mean) == (2, 10.0, None)
    assert found.variation == pytest.approx(0.1414213562)


def test_one_run_has_a_mean_only() -> None:
    assert summarize_runs([7.0]) == RunsSummary(num_runs=1, mean=7.0, olympic_mean=None, variation=None)


def test_runs_that_score_nothing_do_not_vary() -> None:
    assert summarize_runs([0.0, 0.0, 0.0]) == RunsSummary(
        num_runs=3, mean=0.0, olympic_mean=0.0, variation=None
    )


def test_no_runs_have_no_summary() -> None:
    with pytest.raises(ValueError, match="no scores to summarize"):
        summarize_runs([])
