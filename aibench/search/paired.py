"""Statistics of a paired comparison: the same seeds under every algorithm. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from aibench.ranks import shared_ranks

CONFIDENCE = 0.95
NUM_RESAMPLES = 2000
_RESAMPLING_SEED = 1

Floats = NDArray[np.float64]


class Band(NamedTuple):
    """Mean over the seeds with its confidence interval, one value per place; each of shape [places]."""

    mean: Floats
    low: Floats
    high: Floats


class SignedRankTest(NamedTuple):
    """Sum of the positive ranks less that of the negative ones, and the p-value."""

    balance: float
    p_value: float


def bootstrap_band(values: Floats) -> Band:
    """Mean and percentile bootstrap interval (95 %) over seeds; the same for the same values.

    With few seeds the interval is too narrow: it knows no values but the given ones.

    Args:
        values: Shape [seeds, places].
    """
    num_seeds = len(values)
    rng = np.random.default_rng(_RESAMPLING_SEED)
    picks = rng.multinomial(num_seeds, [1 / num_seeds] * num_seeds, size=NUM_RESAMPLES)
    means = picks / num_seeds @ values
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(means, (tail, 1 - tail), axis=0)
    return Band(values.mean(axis=0), low, high)


def mean_ranks(values: Floats) -> Floats:
    """Mean rank of each algorithm over the seeds, 1 for the least value; equal values share their ranks.

    Args:
        values: Shape [algorithms, seeds].

    Returns:
        Shape [algorithms].
    """
    ranks: Floats = np.array([shared_ranks(column) for column in values.T.tolist()])
    means: Floats = ranks.mean(axis=0)
    return means


def signed_rank_test(differences: Sequence[float]) -> SignedRankTest:
    """Wilcoxon's signed-rank test, two-sided, exact also with ties; zeros are left out.

    Every assignment of signs to the ranks is equally likely if the pairs do not differ. The number of
    assignments by their sum of positive ranks follows rank by rank (ranks doubled, so that shared ones are
    whole). Without any difference p is 1.
    """
    differences = [difference for difference in differences if difference != 0]
    ranks = [round(2 * rank) for rank in shared_ranks([abs(difference) for difference in differences])]
    num_ways = [1] + [0] * sum(ranks)
    for rank in ranks:
        num_ways = [
            ways + (num_ways[total - rank] if total >= rank else 0) for total, ways in enumerate(num_ways)
        ]
    positive = sum(rank for rank, difference in zip(ranks, differences, strict=True) if difference > 0)
    negative = sum(ranks) - positive
    p_value = min(1.0, 2 * sum(num_ways[: min(positive, negative) + 1]) / 2 ** len(ranks))
    return SignedRankTest((positive - negative) / 2, p_value)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's correction for looking at several pairs, in the given order."""
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for num_done, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - num_done) * p_values[index]))
        adjusted[index] = largest
    return adjusted
