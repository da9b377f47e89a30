"""What a trial's error will be, from the errors of its first epochs: a power law through the latest of them.

The error of a network falls about as a power of its training, e(n) = e(m) · (n/m)^-c (Hestness et al., "Deep
learning scaling is predictable, empirically", arXiv:1712.00409; Viering and Loog, "The shape of learning
curves", arXiv:2103.10948). The exponent c is found by Bayesian linear regression in logarithms over the
latest third of the curve, drawn towards a small one: early epochs follow another law, and so few points leave
much open (Domhan et al., "Speeding up automatic hyperparameter optimization", IJCAI 2015).

A trial's learning rate ends with its last epoch, so that the same network in a trial of more epochs has
another curve, not a longer one. From the end of one trial to that of another a typical exponent alone leads:
the slope that a curve ends with is made by its falling learning rate.

The constants are fitted to the recorded curves of the benchmark ``test_bench_learning_curve.py``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MIN_EPOCHS = 3
"""With fewer finished epochs nothing is predicted."""
TRIAL_EXPONENT = 0.3
"""From trial to trial; Hestness et al. find 0.07 to 0.35 by the size of the training set."""
LATE_SHARE = 0.7
"""From this share of the epochs on the lowest error so far is the better prediction."""
_LATEST_SHARE = 1 / 3
_PRIOR_EXPONENT = 0.1
_PRIOR_WEIGHT = 0.3
_SPREAD = 0.35
_OPTIMISM = 1.28


@dataclass(frozen=True, kw_only=True, slots=True)
class Prediction:
    """Best validation error that a trial will have reached after its last epoch.

    Attributes:
        error: Expected.
        optimistic_error: Nine in ten trials end above it, once half of their epochs are finished.
    """

    error: float
    optimistic_error: float


def predict_end(errors: Sequence[float], epochs: int) -> Prediction:
    """Look from a trial's finished epochs to its last one.

    The lowest error so far is expected with fewer than three epochs, late in the trial, and where the
    curve has not fallen lately.

    Args:
        errors: Validation errors of the finished epochs in order, at least one.
        epochs: Epochs of the whole trial.

    Returns:
        Both between 0 and the lowest error so far.
    """
    best = np.minimum.accumulate(np.asarray(errors, dtype=np.float64))
    done, last = len(best), float(best[-1])
    if last == 0.0 or done >= epochs:
        return Prediction(error=last, optimistic_error=last)
    if done < MIN_EPOCHS:
        return Prediction(error=last, optimistic_error=0.0)
    first = done - max(MIN_EPOCHS, math.ceil(done * _LATEST_SHARE))
    exponent, deviation = _exponent(best[first:], first + 1)
    ahead = math.log(epochs / done)
    is_last_best = best[first] == last or done >= LATE_SHARE * epochs
    return Prediction(
        error=last if is_last_best else last * math.exp(-exponent * ahead),
        optimistic_error=last * math.exp(-(exponent + _OPTIMISM * deviation) * ahead),
    )


def predict_full(errors: Sequence[float], epochs: int, full_epochs: int) -> float:
    """Best error that a trial's network would reach in a trial of ``full_epochs`` epochs.

    Args:
        errors: Validation errors of the finished epochs in order, at least one.
        epochs: Epochs of the whole trial that they are of.
        full_epochs: Epochs of the other trial.

    Returns:
        Between 0 and the lowest error so far, which it is with fewer than three epochs, and where none was
        better than the first.
    """
    lowest = min(errors)
    if len(errors) < MIN_EPOCHS or lowest == errors[0]:
        return lowest
    end = predict_end(errors, epochs).error
    return min(lowest, end * math.pow(epochs / full_epochs, TRIAL_EXPONENT))


def _exponent(errors: NDArray[np.float64], first_epoch: int) -> tuple[float, float]:
    """Exponent of the power law through errors above 0, not below 0, and its standard deviation."""
    time = np.log(np.arange(first_epoch, first_epoch + len(errors)))
    time -= time.mean()
    weight = float(time @ time) + _PRIOR_WEIGHT
    slope = (_PRIOR_WEIGHT * _PRIOR_EXPONENT - float(time @ np.log(errors))) / weight
    return max(0.0, slope), _SPREAD / math.sqrt(weight)
