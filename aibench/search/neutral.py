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
from aibench.architecture.morphs import ALL_KINDS, Morph, applicable, apply
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


def lasting_kinds(
    neutral: Architecture, neutralise: Callable[[Architecture], Architecture]
) -> tuple[type[Morph], ...]:
    """Kinds of morphs that hyper-parameters leave in the network.

    A window size that is a hyper-parameter of all layers undoes what a morph did to one of them: the child
    would be its parent again. One place of the neutral network speaks for all of a kind.

    Args:
        neutral: The initial network without what hyper-parameters made of it.
        neutralise: Takes out of a network what hyper-parameters made of it.
    """

    def lasts(kind: type[Morph]) -> bool:
        morphs = applicable(neutral, kinds=(kind,))
        return not morphs or neutralise(apply(neutral, morphs[0])) != neutral

    return tuple(kind for kind in ALL_KINDS if lasts(kind))


def _departure(network: Architecture, initial: Architecture) -> tuple[bool, int]:
    return network != initial, count(network).aiperf_ops.train
