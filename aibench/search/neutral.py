"""Networks without what hyper-parameters made of them.

A trial trains an architecture that its hyper-parameters changed, such as by larger windows. Its children get
hyper-parameters of their own, so an architecture search compares and limits networks as they were before:
otherwise a parent with expensive hyper-parameters would leave its children no room.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from aibench.api.space import Domain, Scalar
from aibench.api.workload import HyperParameters
from aibench.architecture import Architecture
from aibench.counting import count
from aibench.search.domains import corner_values

Specialise = Callable[[Architecture, HyperParameters], Architecture]


def neutral_values(
    initial: Architecture, space: Mapping[str, Domain], specialise: Specialise
) -> dict[str, Scalar]:
    """The value of each hyper-parameter that leaves the initial network as it is.

    If none does, it is the one that makes the network cheapest; of an interval only the ends are looked at.
    Hyper-parameters that never change the network are left out.

    Raises:
        ArchitectureError: A value fits no network.
    """
    neutral: dict[str, Scalar] = {}
    for name, domain in space.items():
        changed = [(value, specialise(initial, {name: value})) for value in corner_values(domain)]
        if any(network != initial for _, network in changed):
            neutral[name], _ = min(changed, key=lambda pair: _departure(pair[1], initial))
    return neutral


def _departure(network: Architecture, initial: Architecture) -> tuple[bool, int]:
    return network != initial, count(network).aiperf_ops.train
