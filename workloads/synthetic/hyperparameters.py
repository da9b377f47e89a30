"""The hyper-parameters of trials that do not train: their domains, and how a trainer reads them."""

from __future__ import annotations

from collections.abc import Mapping

from aibench.api.space import Domain
from aibench.api.workload import HyperParameters
from aibench.errors import TrialError

LEARNING_RATE = "learning_rate"
KERNEL_SIZE = "kernel_size"

SEARCH_SPACE: Mapping[str, Domain] = {
    LEARNING_RATE: Domain(low=0.01, high=0.3, log=True),
    KERNEL_SIZE: Domain(choices=(3, 5)),
}


def learning_rate_of(hyper_parameters: HyperParameters) -> float:
    """The one value that the curve depends on; the other is part of the network.

    Raises:
        TrialError: It is missing or unusable, or there are others than these two.
    """
    unknown = sorted(set(hyper_parameters) - set(SEARCH_SPACE))
    if unknown:
        raise TrialError(f"hyper-parameter {unknown[0]!r}: unknown, expected {', '.join(SEARCH_SPACE)}")
    value = hyper_parameters.get(LEARNING_RATE)
    if not isinstance(value, int | float) or value <= 0:
        raise TrialError(f"hyper-parameter {LEARNING_RATE!r}: {value!r}, expected a number above 0")
    return float(value)
