"""When a trial is given up before its last epoch: it stands still, or it cannot become good."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from aibench.search.config import SearchConfig
from aibench.search.learning_curve import MIN_EPOCHS, predict_end

MIN_PEERS = 5
"""Trials that must have ended before one is hopeless beside them; as Optuna's MedianPruner starts."""
MIN_SHARE = 0.5
"""Of a trial's epochs that must be finished: where the learning rate is still high, errors promise little."""


def reason_to_stop(
    config: SearchConfig, errors: Sequence[float], epochs: int, *, peers: Sequence[float]
) -> str | None:
    """Why a trial is to be stopped after the epoch in progress; None if it goes on.

    A trial is hopeless if even the optimistic end of its prediction lies above the median of its peers: the
    median stopping rule (Golovin et al., "Google Vizier", KDD 2017) with a prediction in the place of the
    error so far. Peers that were stopped count with the error they reached. Without them the median would be
    one of survivors, and every trial stopped would raise the bar for the next.

    Args:
        config: What may be stopped.
        errors: Validation errors of the finished epochs in order, at least one.
        epochs: Epochs of the whole trial.
        peers: Best errors of the trials that were completed or stopped before, of those with at most as many
            epochs: a longer trial's error is no measure for a shorter one.
    """
    if len(errors) >= epochs - 1:
        return None  # the worker trains the last epoch by now
    return _stalled(config, errors) or _hopeless(config, errors, epochs, peers)


def _stalled(config: SearchConfig, errors: Sequence[float]) -> str | None:
    patience = config.patience_epochs
    if patience is None or len(errors) - 1 - errors.index(min(errors)) < patience:
        return None
    return f"stalled: no better error in {patience} epochs"


def _hopeless(
    config: SearchConfig, errors: Sequence[float], epochs: int, peers: Sequence[float]
) -> str | None:
    if not config.stop_hopeless or len(peers) < MIN_PEERS:
        return None
    if len(errors) < max(MIN_EPOCHS, epochs * MIN_SHARE):
        return None
    median, promised = statistics.median(peers), predict_end(errors, epochs).optimistic_error
    if promised <= median:
        return None
    return f"hopeless: {promised:.2%} error at best, where half of {len(peers)} trials reached {median:.2%}"
