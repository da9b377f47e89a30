"""What was predicted of trials against what they achieved; for the eye only, no score reads it."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence

import msgspec

from aibench.api.events import Outcome
from aibench.ranks import shared_ranks
from aibench.score.history import RunHistory, TrialHistory
from aibench.score.units import grouped

MIN_PAIRS = 5
MAX_PAIRS = 500


class PredictionPair(msgspec.Struct, frozen=True, kw_only=True):
    """One completed trial: the validation error predicted, held to 0..1, and the lowest of its epochs."""

    trial: int
    predicted_error: float
    achieved_error: float


class PredictionSeries(msgspec.Struct, frozen=True, kw_only=True):
    """One source of predictions.

    Attributes:
        num_pairs: Completed trials with a prediction; the figures are of all of them.
        mean_absolute_error: Mean distance of prediction and outcome; None below ``MIN_PAIRS`` pairs.
        rank_correlation: Spearman's coefficient, -1..1; None below ``MIN_PAIRS`` pairs and where all
            predictions or all outcomes are equal.
        pairs: In the order of the trials; of more than ``MAX_PAIRS`` an even choice.
    """

    num_pairs: int
    mean_absolute_error: float | None
    rank_correlation: float | None
    pairs: tuple[PredictionPair, ...]


class PredictionsReport(msgspec.Struct, frozen=True, kw_only=True):
    """The predictions of a run's completed trials.

    Attributes:
        search: What the architecture search expected before training.
        curve: What the learning curve promised at the middle of the trial's epochs.
    """

    search: PredictionSeries
    curve: PredictionSeries


def build_predictions(history: RunHistory) -> PredictionsReport:
    """Compare the predictions of all completed trials; what other trials would have reached nobody knows."""
    completed = [
        trial
        for trial in history.trials.values()
        if trial.closed is not None and trial.closed.outcome is Outcome.COMPLETED
    ]
    return PredictionsReport(
        search=_series(completed, lambda trial: trial.claimed.lineage.predicted_error),
        curve=_series(completed, _halfway),
    )


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Spearman's coefficient of equally long sequences, ties at their mean rank; None if one is constant."""
    if len(set(first)) < 2 or len(set(second)) < 2:
        return None
    return statistics.correlation(shared_ranks(first), shared_ranks(second))


def figures_text(series: PredictionSeries) -> str:
    """The figures in words."""
    trials = f"{grouped(series.num_pairs)} completed trial{'' if series.num_pairs == 1 else 's'}"
    if series.mean_absolute_error is None:
        return f"too few to judge ({trials})" if series.num_pairs else "none made"
    points = f"{100 * series.mean_absolute_error:.2f}"
    correlation = "undefined" if series.rank_correlation is None else f"{series.rank_correlation:.2f}"
    return f"{points} percentage points off on average, rank correlation {correlation} ({trials})"


def _series(
    trials: Iterable[TrialHistory], predicted: Callable[[TrialHistory], float | None]
) -> PredictionSeries:
    pairs = [
        PredictionPair(
            trial=trial.number,
            predicted_error=min(1.0, max(0.0, prediction)),
            achieved_error=trial.error,
        )
        for trial in trials
        if (prediction := predicted(trial)) is not None and trial.error is not None
    ]
    is_enough = len(pairs) >= MIN_PAIRS
    forecasts = [pair.predicted_error for pair in pairs]
    outcomes = [pair.achieved_error for pair in pairs]
    distances = [abs(ours - theirs) for ours, theirs in zip(forecasts, outcomes, strict=True)]
    return PredictionSeries(
        num_pairs=len(pairs),
        mean_absolute_error=statistics.fmean(distances) if is_enough else None,
        rank_correlation=rank_correlation(forecasts, outcomes) if is_enough else None,
        pairs=_thinned(pairs),
    )


def _halfway(trial: TrialHistory) -> float | None:
    """The prediction after half of the epochs, rounded down; None for a trial of one epoch."""
    middle = trial.claimed.spec.epochs // 2
    return trial.epochs[middle - 1].finished.predicted_error if middle else None


def _thinned(pairs: Sequence[PredictionPair]) -> tuple[PredictionPair, ...]:
    if len(pairs) <= MAX_PAIRS:
        return tuple(pairs)
    return tuple(pairs[place * len(pairs) // MAX_PAIRS] for place in range(MAX_PAIRS))
