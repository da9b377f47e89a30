"""Where the weights of a morphed network come from, so that it computes what its parent does.

A plan holds one start for every node of the child: the parent's node that it continues, or how it starts
anew. The invariant, in evaluation mode: channel c of a continued node's output is channel ``channels[c]`` of
the parent's node. What starts anew passes its input on, or is silenced by a batch norm of scale 0.

Widening copies channels and splits the weights that read them between the copies, in fractions that sum to
exactly 1. The fractions of two copies differ: equal ones would get equal gradients for ever. Sources: Chen et
al., "Net2Net", arXiv:1511.05641, sections 2.1 and 2.2; Wei et al., "Network Morphism", arXiv:1603.01670; Wang
et al., arXiv:2410.11038.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from aibench.architecture.graph import Architecture, Concat, Conv, Dense, Dropout, Flatten
from aibench.architecture.morph_places import channel_groups
from aibench.architecture.morphs import Deepen, EnlargeKernel, Morph, Skip, Widen, apply
from aibench.errors import ArchitectureError

# Fractions of a halved weight in 64ths, so that they and their complements are exact: from 1/4 to 3/4, and
# none near 1/2.
_SHARES = tuple(share for share in range(16, 49) if abs(share - 32) >= 4)
_WHOLE = 64


class Fresh(StrEnum):
    """How a layer starts that continues none of the parent's."""

    DRAWN = "drawn"
    """As in a network that is trained from scratch."""
    IDENTITY = "identity"
    """A convolution hands its first input channels on, a batch norm everything."""
    ZERO = "zero"
    """A batch norm of scale 0: nothing passes until it learns another."""


class InputShare(NamedTuple):
    """The weights of one input channel: those of the parent's ``channel``, times ``fraction``."""

    channel: int
    fraction: float


@dataclass(frozen=True, slots=True)
class Continued:
    """A layer that goes on with what the parent's layer ``node`` has learned.

    Attributes:
        node: Position in the parent.
        channels: Of each output channel, the parent's output channel that it repeats.
        inputs: Of each input channel, whose weights it has; empty for layers that weigh no inputs, and for
            grouped convolutions, whose inputs are the parent's. Windows of different size are aligned at
            their centres, and what the parent's does not reach is 0.
    """

    node: int
    channels: tuple[int, ...]
    inputs: tuple[InputShare, ...] = ()


Start = Continued | Fresh
Plan = tuple[Start, ...]


def plan_morph(parent: Architecture, morph: Morph, *, seed: int) -> tuple[Architecture, Plan]:
    """The morphed network, and where its weights come from.

    Args:
        seed: Of the fractions.

    Raises:
        ArchitectureError: The network has no such place.
    """
    child = apply(parent, morph)
    match morph:
        case Widen():
            return child, _continue_all(parent, _origins(parent, morph), random.Random(seed))  # noqa: S311
        case EnlargeKernel():
            return child, _continue_all(parent, _same_channels(parent))
        case Deepen():
            return child, _inserted(parent, morph.place, _DEEPENED[morph.layers])
        case Skip():
            is_projected = len(child.nodes) - len(parent.nodes) == 3
            start = "projected" if morph.join == "add" and is_projected else morph.join
            return child, _inserted(parent, morph.target, _SKIPPED[start])


def plan_realigned(parent: Architecture, child: Architecture) -> Plan:
    """Where the weights come from of a network that differs in dropouts and sizes of windows alone.

    The child computes what the parent does unless a window is smaller.

    Raises:
        ArchitectureError: The networks differ in more.
    """
    places = [index for index, node in enumerate(parent.nodes) if type(node) is not Dropout]
    children = [index for index, node in enumerate(child.nodes) if type(node) is not Dropout]
    sketch = [(type(parent.nodes[place]), parent.shapes[place].channels) for place in places]
    if sketch != [(type(child.nodes[place]), child.shapes[place].channels) for place in children]:
        raise ArchitectureError("the networks differ in more than dropouts and windows")
    continued = _continue_all(parent, _same_channels(parent))
    starts: list[Start] = [Fresh.DRAWN] * len(child.nodes)
    for place, index in zip(places, children, strict=True):
        starts[index] = continued[place]
    return tuple(starts)


_DEEPENED: dict[str, tuple[Fresh, ...]] = {
    "conv": (Fresh.IDENTITY, Fresh.IDENTITY, Fresh.DRAWN),
    "block": (*[Fresh.DRAWN] * 4, Fresh.ZERO, *[Fresh.DRAWN] * 2),
}
_SKIPPED: dict[str, tuple[Fresh, ...]] = {
    "add": (Fresh.ZERO, Fresh.DRAWN),
    "projected": (Fresh.DRAWN, Fresh.ZERO, Fresh.DRAWN),
    "concat": (Fresh.DRAWN, Fresh.IDENTITY, Fresh.IDENTITY, Fresh.DRAWN),
}


def _inserted(parent: Architecture, place: int, fresh: Sequence[Fresh]) -> Plan:
    continued = _continue_all(parent, _same_channels(parent))
    return (*continued[: place + 1], *fresh, *continued[place + 1 :])


def _same_channels(parent: Architecture) -> list[tuple[int, ...]]:
    return [tuple(range(shape.channels)) for shape in parent.shapes]


def _origins(parent: Architecture, morph: Widen) -> list[tuple[int, ...]]:
    """Of each node's output channels in the widened network, the parent's channel that they repeat."""
    group_of = channel_groups(parent)
    origins: list[tuple[int, ...]] = []
    for index, node in enumerate(parent.nodes):
        sources = [origins[source] for source in node.inputs]
        own = tuple(range(parent.shapes[index].channels))
        if type(node) in (Conv, Dense):
            origins.append((*own, *own) if group_of[index] == group_of[morph.place] else own)
        elif type(node) is Concat:
            origins.append(_side_by_side(parent, node.inputs, sources))
        elif type(node) is Flatten:
            area = parent.shapes[index].channels // parent.shapes[node.inputs[0]].channels
            origins.append(tuple([c * area + offset for c in sources[0] for offset in range(area)]))
        else:
            origins.append(sources[0] if sources else own)
    return origins


def _side_by_side(
    parent: Architecture, inputs: Sequence[int], origins: Sequence[tuple[int, ...]]
) -> tuple[int, ...]:
    joined: list[int] = []
    before = 0
    for source, origin in zip(inputs, origins, strict=True):
        joined += [before + channel for channel in origin]
        before += parent.shapes[source].channels
    return tuple(joined)


def _continue_all(
    parent: Architecture, origins: Sequence[tuple[int, ...]], rng: random.Random | None = None
) -> tuple[Continued, ...]:
    return tuple(
        Continued(
            node=index,
            channels=origins[index],
            inputs=_shares(origins[node.inputs[0]], rng)
            if type(node) is Dense or (type(node) is Conv and node.groups == 1)
            else (),
        )
        for index, node in enumerate(parent.nodes)
    )


def _shares(origin: Sequence[int], rng: random.Random | None) -> tuple[InputShare, ...]:
    """Split the weights of channels that have a copy; without random numbers there is none."""
    if rng is None:
        return tuple([InputShare(channel, 1.0) for channel in origin])
    num_copies = [0] * (max(origin) + 1)
    for channel in origin:
        num_copies[channel] += 1
    left: dict[int, int] = {}
    shares = []
    for channel in origin:
        if num_copies[channel] == 1:
            share = _WHOLE
        elif channel in left:
            share = left[channel]
        else:
            share = rng.choice(_SHARES)
            left[channel] = _WHOLE - share
        shares.append(InputShare(channel, share / _WHOLE))
    return tuple(shares)
