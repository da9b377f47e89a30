"""The hyper-parameters of image classification: their default domains, and how a trainer reads them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from aibench.api.space import Domain
from aibench.api.workload import HyperParameters
from aibench.errors import TrialError

LEARNING_RATE = "learning_rate"
BATCH_SIZE = "batch_size"
KERNEL_SIZE = "kernel_size"
DROPOUT = "dropout"

_NAMES = (LEARNING_RATE, BATCH_SIZE, KERNEL_SIZE, DROPOUT)
_SMALL_BATCH_SIZES = (32, 64, 128)
_LARGE_BATCH_SIZES = (256, 512, 1024)


def search_space(*, is_large: bool) -> Mapping[str, Domain]:
    """Default domains; ``batch_size`` is that of a whole worker, over all its ranks.

    Args:
        is_large: Whether the data set is of ImageNet's kind rather than one that fits into memory.
    """
    return {
        LEARNING_RATE: Domain(low=0.01, high=0.3, log=True),
        BATCH_SIZE: Domain(choices=_LARGE_BATCH_SIZES if is_large else _SMALL_BATCH_SIZES),
        KERNEL_SIZE: Domain(choices=(3, 5)),
        DROPOUT: Domain(low=0.0, high=0.5),
    }


@dataclass(frozen=True, kw_only=True, slots=True)
class StepSettings:
    """The hyper-parameters of the training steps; the others are part of the network.

    Attributes:
        learning_rate: Of the first step.
        batch_size: Images of one step of the whole worker.
    """

    learning_rate: float
    batch_size: int

    @classmethod
    def read(cls, hyper_parameters: HyperParameters) -> StepSettings:
        """Take the values of a trial.

        Raises:
            TrialError: One is missing, unknown or unusable.
        """
        unknown = sorted(set(hyper_parameters) - set(_NAMES))
        if unknown:
            raise TrialError(f"hyper-parameter {unknown[0]!r}: unknown, expected {', '.join(_NAMES)}")
        for name in (LEARNING_RATE, BATCH_SIZE):
            if name not in hyper_parameters:
                raise TrialError(f"hyper-parameter {name!r}: missing")
        if problem := objection(hyper_parameters):
            raise TrialError(f"hyper-parameter {problem}")
        learning_rate, batch_size = hyper_parameters[LEARNING_RATE], hyper_parameters[BATCH_SIZE]
        return cls(learning_rate=float(learning_rate), batch_size=int(batch_size))


def objection(hyper_parameters: HyperParameters) -> str | None:
    """Which of the given values no trial can be trained with, and what was expected; None if all are fine."""
    learning_rate = hyper_parameters.get(LEARNING_RATE, 1.0)
    if not isinstance(learning_rate, int | float) or not 0 < learning_rate < math.inf:
        return f"{LEARNING_RATE!r}: {learning_rate!r}, expected a number above 0"
    batch_size = hyper_parameters.get(BATCH_SIZE, 1)
    if not isinstance(batch_size, int) or batch_size < 1:
        return f"{BATCH_SIZE!r}: {batch_size!r}, expected a whole number above 0"
    return None
