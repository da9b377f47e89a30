"""Validation errors as a training might show them: falling towards a floor, with noise, from a seed alone."""

from __future__ import annotations

import math
import random

DECAY_EPOCHS = 3.0
"""Epochs in which the error above its floor falls to 1 / e."""
BEST_LEARNING_RATE = 0.08
BEST_ERROR = 0.05
OFF_LEARNING_RATE_PENALTY = 0.03
"""Error per factor of e between the learning rate and the best one."""
TENFOLD_WORK_GAIN = 0.02
"""Error that ten times the operations take away."""
REFERENCE_OPS = 1e9
NOISE = 0.004
HEAD_START_EPOCHS = 2
"""What a parent's weights are worth."""


class ErrorCurve:
    """The validation error of one trial by epoch.

    Args:
        train_ops: Training operations of its network per image.
        seed: The same seed gives the same curve.
    """

    def __init__(self, *, num_classes: int, learning_rate: float, train_ops: int, seed: int) -> None:
        self._first = 1.0 - 1.0 / num_classes
        penalty = OFF_LEARNING_RATE_PENALTY * abs(math.log(learning_rate / BEST_LEARNING_RATE))
        gain = TENFOLD_WORK_GAIN * math.log10(max(train_ops, 1) / REFERENCE_OPS)
        self._floor = min(self._first, max(0.01, BEST_ERROR + penalty - gain))
        self._seed = seed

    def error(self, epoch: int, *, is_inherited: bool = False) -> float:
        """Between 0 and 1, after the n-th epoch."""
        steps = epoch + (HEAD_START_EPOCHS if is_inherited else 0)
        expected = self._floor + (self._first - self._floor) * math.exp(-steps / DECAY_EPOCHS)
        noise = random.Random(f"{self._seed}:{epoch}").gauss(0.0, NOISE)  # noqa: S311
        return min(1.0, max(0.0, expected + noise))
