from __future__ import annotations

import numpy as np
import pytest

from aibench.ranks import shared_ranks
from aibench.search.paired import bootstrap_band, holm, mean_ranks, signed_rank_test


@pytest.mark.parametrize(
    ("differences", "balance", "p_value"),
    [
        ([1.0, 2.0, 3.0, 4.0, 5.0], 15.0, 2 / 32),
        ([-1.0, -2.0, -3.0, -4.0, -5.0], -15.0, 2 / 32),
        # Sums of at most 4 from the ranks 1 to 5: none, 1, 2, 3, 4, 1+2, 1+3.
        ([1.0, 2.0, 3.0, -4.0, 5.0], 7.0, 14 / 32),
        ([1.0, 1.0, 1.0], 6.0, 2 / 8),
        ([1.0, 1.0, -1.0], 2.0, 1.0),
        # Ranks 1.5, 1.5 and 3; sums of at most 3: none, 1.5 twice, 3 twice, so 5 of 8 and no more than 1.
        ([1.0, 1.0, -2.0], 0.0, 1.0),
        ([0.0, 1.0, 0.0, 1.0, 1.0], 6.0, 2 / 8),
        ([0.0, 0.0], 0.0, 1.0),
        ([], 0.0, 1.0),
    ],
)
def test_signed_rank_test_by_hand(differences: list[float], balance: float, p_value: float) -> None:
    assert list(signed_rank_test(differences)) == pytest.approx([balance, p_value], rel=1e-12)


def test_signed_rank_test_on_hollander_and_wolfe_s_depression_scores() -> None:
    before = [1.83, 0.50, 1.62, 2.48, 1.68, 1.88, 1.55, 3.06, 1.30]
    after = [0.878, 0.647, 0.598, 2.05, 1.06, 1.29, 1.06, 3.14, 1.29]
    test = signed_rank_test([b - a for b, a in zip(before, after, strict=True)])
    assert test.balance == 40 - 5
    assert test.p_value == pytest.approx(0.03906, abs=5e-6)


def test_holm_multiplies_by_the_pairs_left_and_never_falls() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.5]) == [1.0, 1.0]
    assert holm([]) == []


def test_equal_values_share_their_ranks() -> None:
    assert shared_ranks([0.3, 0.1, 0.3, 0.2]) == [3.5, 1.0, 3.5, 2.0]


def test_mean_ranks_are_taken_seed_by_seed() -> None:
    errors = np.array([[0.1, 0.2], [0.2, 0.2], [0.3, 0.1]])
    assert mean_ranks(errors).tolist() == [1.75, 2.25, 2.0]


def test_band_of_equal_values_is_that_value() -> None:
    band = bootstrap_band(np.full((5, 3), 0.25))
    assert [column.tolist() for column in band] == [pytest.approx([0.25] * 3, rel=1e-12)] * 3


def test_band_of_two_seeds_spans_them() -> None:
    band = bootstrap_band(np.array([[0.0], [1.0]]))
    assert [column.tolist() for column in band] == [[0.5], [0.0], [1.0]]


def test_band_narrows_with_the_seeds_and_repeats() -> None:
    few, many = (bootstrap_band(np.tile([[0.1], [0.2]], (n, 1))) for n in (2, 50))
    assert (few.high - few.low)[0] > 2 * (many.high - many.low)[0] > 0
    assert bootstrap_band(np.tile([[0.1], [0.2]], (2, 1)))[1] == few.low
