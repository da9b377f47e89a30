"""How much memory training may take, by the workload's estimate."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from aibench.api.space import Domain
from aibench.api.workload import HyperParameters
from aibench.architecture import Architecture
from aibench.search.domains import corner_values

BYTES_PER_GIB = 2**30

Estimate = Callable[[Architecture, HyperParameters], int]
"""Training memory of one rank in bytes, from a final network and whole hyper-parameters."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MemoryLimit:
    """Most training memory of one rank."""

    max_gib: float
    estimate: Estimate

    def allows(self, architecture: Architecture, hyper_parameters: HyperParameters) -> bool:
        """Whether the network can be trained with these hyper-parameters."""
        return self.estimate(architecture, hyper_parameters) <= self.max_gib * BYTES_PER_GIB

    def excess(self, architecture: Architecture, hyper_parameters: HyperParameters) -> str:
        """What is needed, in words, and what is allowed."""
        needed = gib(self.estimate(architecture, hyper_parameters))
        return f"needs an estimated {needed} per rank for training, expected at most {self.max_gib:g} GiB"


def gib(num_bytes: int) -> str:
    """A number of bytes for reading."""
    return f"{num_bytes / BYTES_PER_GIB:.3g} GiB"


def least_memory(
    architecture: Architecture, space: Mapping[str, Domain], estimate: Estimate
) -> HyperParameters:
    """The values with which this network takes least memory, of those that make a difference.

    Of an interval only the ends are looked at, and every hyper-parameter by itself.
    """
    return _extreme(architecture, space, estimate, sign=1)


def most_memory(
    architecture: Architecture, space: Mapping[str, Domain], estimate: Estimate
) -> HyperParameters:
    """The values with which this network takes most memory; see `least_memory`."""
    return _extreme(architecture, space, estimate, sign=-1)


def _extreme(
    architecture: Architecture, space: Mapping[str, Domain], estimate: Estimate, *, sign: int
) -> HyperParameters:
    basis = {name: corner_values(domain)[0] for name, domain in space.items()}
    extreme: HyperParameters = {}
    for name, domain in space.items():
        needed = {
            value: sign * estimate(architecture, {**basis, name: value}) for value in corner_values(domain)
        }
        if len(set(needed.values())) > 1:
            extreme[name] = min(needed, key=needed.__getitem__)
    return extreme
