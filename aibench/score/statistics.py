"""How steady a score is: within one run, and over several."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from aibench.score.score import SECONDS_PER_HOUR, Sample

MAX_CONVERGED_DRIFT = 0.05
MAX_CONVERGED_SPREAD = 0.05
MIN_STABILITY_SAMPLES = 5
MIN_OLYMPIC_RUNS = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Stability:
    """The normalized score over the last third of a run.

    Attributes:
        slope_per_hour: Least-squares slope over the third, as a share of its mean per hour.
        drift: Change along that slope over the third, as a share of its mean.
        spread: (largest - smallest) / mean.
    """

    num_samples: int
    slope_per_hour: float
    drift: float
    spread: float

    @property
    def is_converged(self) -> bool:
        """Drift and spread are both within 5 %."""
        return abs(self.drift) <= MAX_CONVERGED_DRIFT and self.spread <= MAX_CONVERGED_SPREAD


def stability(curve: Sequence[Sample]) -> Stability | None:
    """Steadiness of the last third of a curve; None with fewer than five different samples in it."""
    end_s = curve[-1].t_s
    third = [sample for sample in curve if sample.t_s >= end_s * 2 / 3]
    if len({sample.elapsed_s for sample in third}) < MIN_STABILITY_SAMPLES:
        return None
    values = [sample.normalized_ops_per_s for sample in third]
    mean = statistics.fmean(values)
    if mean <= 0:
        return None
    hours = [sample.t_s / SECONDS_PER_HOUR for sample in third]
    slope_per_hour = statistics.linear_regression(hours, values).slope / mean
    return Stability(
        num_samples=len(third),
        slope_per_hour=slope_per_hour,
        drift=slope_per_hour * (hours[-1] - hours[0]),
        spread=(max(values) - min(values)) / mean,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class RunsSummary:
    """Several runs of one configuration.

    Attributes:
        olympic_mean: Mean without the best and the worst; None with fewer than three runs.
        variation: Coefficient of variation (sample standard deviation / mean); None with one run.
    """

    num_runs: int
    mean: float
    olympic_mean: float | None
    variation: float | None


def summarize_runs(scores: Sequence[float]) -> RunsSummary:
    """Combine the scores of several runs.

    Raises:
        ValueError: No scores.
    """
    if not scores:
        raise ValueError("no scores to summarize")
    mean = statistics.fmean(scores)
    middle = sorted(scores)[1:-1]
    return RunsSummary(
        num_runs=len(scores),
        mean=mean,
        olympic_mean=statistics.fmean(middle) if len(scores) >= MIN_OLYMPIC_RUNS else None,
        variation=statistics.stdev(scores) / mean if len(scores) > 1 and mean else None,
    )
