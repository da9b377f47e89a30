from __future__ import annotations

import pytest

from aibench.convergence import (
    ConvergencePoint,
    convergence_points,
    convergence_sentence,
    lengths,
    relative_uncertainty,
)


def point(length: float, spread: float | None, slope: float | None) -> ConvergencePoint:
    return ConvergencePoint(length=length, mean=1.0, spread=spread, slope=slope)


def sentence(*points: ConvergencePoint) -> str:
    return convergence_sentence(points, "seeds", lambda length: f"{length:g} s")


def test_lengths_double_up_to_the_whole() -> None:
    assert lengths(32.0) == (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)


def test_a_point_has_mean_spread_and_slope_of_all_repetitions() -> None:
    # 8, 10, 12: sample standard deviation 2. Before them 4, 5, 6: mean 5, deviation 1.
    points = convergence_points([1.0, 2.0], [[4.0, 8.0], [5.0, 10.0], [6.0, 12.0]])
    assert points == (ConvergencePoint(length=2.0, mean=10.0, spread=0.2, slope=1.0),)


def test_a_falling_score_has_a_negative_slope() -> None:
    (found,) = convergence_points([1.0, 2.0], [[4.0, 3.0]])
    assert (found.spread, found.slope) == (None, -0.25)


def test_lengths_before_every_repetition_has_a_score_are_left_out() -> None:
    points = convergence_points([1.0, 2.0, 4.0], [[None, 3.0, 3.0], [None, None, 5.0]])
    assert [(p.length, p.mean, p.slope) for p in points] == [(4.0, 4.0, None)]


def test_scores_of_0_have_neither_spread_nor_a_slope_after_them() -> None:
    points = convergence_points([1.0, 2.0, 4.0], [[1.0, 0.0, 2.0], [1.0, 0.0, 2.0]])
    assert [(p.spread, p.slope) for p in points] == [(None, -1.0), (0.0, None)]


def test_the_sentence_compares_the_shortest_with_the_longest_length() -> None:
    assert sentence(point(1, 0.08, 0.142), point(2, 0.5, 0.5), point(4, 0.02, -0.031)) == (
        "From 1 s to 4 s the spread between seeds shrank from 8.0 % to 2.0 %; the slope per doubling shrank "
        "from +14.2 % to -3.1 %."
    )


def test_a_score_that_does_not_settle_is_said_not_to() -> None:
    assert sentence(point(1, 0.02, None), point(2, 0.03, 0.1), point(4, 0.03, 0.1)) == (
        "From 1 s to 4 s the spread between seeds grew from 2.0 % to 3.0 %; the slope per doubling (known "
        "from 2 s on) stayed at +10.0 %."
    )


@pytest.mark.parametrize("points", [[], [point(1, 0.1, 0.1)], [point(1, None, 0.1), point(2, 0.1, 0.1)]])
def test_too_few_lengths_say_nothing(points: list[ConvergencePoint]) -> None:
    assert sentence(*points) == "Too few lengths have a score of all seeds to say how it converges."


def test_one_slope_is_no_change() -> None:
    assert sentence(point(1, 0.2, None), point(2, 0.1, 0.1)).endswith(
        "shrank from 20.0 % to 10.0 %; the slope is known at too few lengths."
    )


def test_a_spread_of_few_repetitions_is_uncertain() -> None:
    assert relative_uncertainty(2) == pytest.approx(0.7071, abs=1e-4)
    assert relative_uncertainty(51) == pytest.approx(0.1)
