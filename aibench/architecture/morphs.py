"""Morphs: changes of a network that can start from its parent's function.

Every morph has an exact start, for the day weights are transferred: a convolution can start as the identity,
the last batch norm of a residual block or of a skip with scale 0, and a channel group can be copied alike in
all its layers. Sources: Chen et al., "Net2Net", arXiv:1511.05641; Wei et al., "Network Morphism",
arXiv:1603.01670; Wang et al., zero-initialised residual blocks, arXiv:2410.11038.

Places are node positions in the network that is morphed. Only maps larger than 1×1 are deepened or skipped
to: behind the global pooling there is nothing for a window to see.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Literal

import msgspec

from aibench.architecture.graph import (
    Add,
    Architecture,
    BatchNorm,
    Concat,
    Conv,
    Dense,
    Dropout,
    Flatten,
    GlobalAvgPool,
    MaxPool,
    Node,
    ReLU,
)
from aibench.errors import ArchitectureError

WIDEN_FACTOR = 2

# Layers whose output channels are their input's: what is widened before them is widened behind them.
# Flatten is one of them because only ratios matter: C times more channels are C times more features.
_PER_CHANNEL = frozenset({BatchNorm, ReLU, Add, MaxPool, GlobalAvgPool, Dropout, Flatten})


class Deepen(msgspec.Struct, frozen=True):
    """Insert 3×3 convolutions behind the ReLU at ``place``, channels and sides kept.

    ``layers`` is ``conv`` for convolution, batch norm, ReLU; ``block`` for a residual block of two of them.
    """

    place: int
    layers: Literal["conv", "block"]

    def __str__(self) -> str:
        return f"deepen@{self.place}:{self.layers}"


class Widen(msgspec.Struct, frozen=True):
    """Double the channels of the group whose first convolution or dense layer is at ``place``.

    A group is all that must have equal channel counts: what sums join, and the per-channel layers between.
    """

    place: int

    def __str__(self) -> str:
        return f"widen@{self.place}:x{WIDEN_FACTOR}"


class Skip(msgspec.Struct, frozen=True):
    """Add the ReLU output at ``source`` to the later one at ``target``, of equal height and width.

    The path is a batch norm, behind a 1×1 convolution if the channels differ.
    """

    source: int
    target: int

    def __str__(self) -> str:
        return f"skip@{self.source}-{self.target}"


Morph = Deepen | Widen | Skip


def applicable(architecture: Architecture) -> list[Morph]:
    """All morphs of the network, in a fixed order; empty if there is none."""
    return [morph for find in _FINDERS for morph in find(architecture)]


def apply(architecture: Architecture, morph: Morph) -> Architecture:
    """Morph the network.

    Raises:
        ArchitectureError: The network has no such place.
    """
    if morph not in applicable(architecture):
        raise ArchitectureError(f"morph {morph}: does not apply to this network")
    return _apply(architecture, morph)


def random_morph(architecture: Architecture, rng: random.Random) -> tuple[Architecture, Morph]:
    """Draw a kind of morph, then a place, both uniformly among those that apply.

    Raises:
        ArchitectureError: No morph applies to the network.
    """
    for find in rng.sample(_FINDERS, k=len(_FINDERS)):
        if morphs := find(architecture):
            morph = rng.choice(morphs)
            return _apply(architecture, morph), morph
    raise ArchitectureError("no morph applies: no ReLU on a map larger than 1×1, no channels free to widen")


def _apply(architecture: Architecture, morph: Morph) -> Architecture:
    match morph:
        case Deepen():
            return _deepen(architecture, morph)
        case Widen():
            return _widen(architecture, morph)
        case Skip():
            return _skip(architecture, morph)


def _deepenings(architecture: Architecture) -> list[Morph]:
    morphs: list[Morph] = []
    for place in _rectified_maps(architecture):
        morphs += [Deepen(place, "conv"), Deepen(place, "block")]
    return morphs


def _widenings(architecture: Architecture) -> list[Morph]:
    group_of = _channel_groups(architecture)
    taken = _fixed_groups(architecture, group_of)
    morphs: list[Morph] = []
    for index, node in enumerate(architecture.nodes):
        if type(node) in (Conv, Dense) and group_of[index] not in taken:
            taken.add(group_of[index])
            morphs.append(Widen(index))
    return morphs


def _skips(architecture: Architecture) -> list[Morph]:
    by_sides: dict[tuple[int, ...], list[int]] = {}
    for place in _rectified_maps(architecture):
        by_sides.setdefault(architecture.shapes[place][1:], []).append(place)
    return [
        Skip(source, target)
        for places in by_sides.values()
        for rank, target in enumerate(places)
        for source in places[:rank]
    ]


_FINDERS: tuple[Callable[[Architecture], list[Morph]], ...] = (_deepenings, _widenings, _skips)


def _rectified_maps(architecture: Architecture) -> list[int]:
    return [
        index
        for index, (node, shape) in enumerate(zip(architecture.nodes, architecture.shapes, strict=True))
        if type(node) is ReLU and shape[1:] != (1, 1)
    ]


def _channel_groups(architecture: Architecture) -> list[int]:
    """Union-find over the nodes: equal numbers are one channel group."""
    parent = list(range(len(architecture.nodes)))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = index = parent[parent[index]]
        return index

    for index, node in enumerate(architecture.nodes):
        if type(node) in _PER_CHANNEL:
            for source in node.inputs:
                parent[root(source)] = root(index)
    return [root(index) for index in range(len(parent))]


def _fixed_groups(architecture: Architecture, group_of: Sequence[int]) -> set[int]:
    """Groups that must keep their channels: image, output, and all that meet a concat or a grouped conv."""
    fixed = {group_of[0], group_of[-1]}
    for index, node in enumerate(architecture.nodes):
        if type(node) is Concat or (type(node) is Conv and node.groups > 1):
            fixed.update(group_of[place] for place in (index, *node.inputs))
    return fixed


def _deepen(architecture: Architecture, morph: Deepen) -> Architecture:
    channels = architecture.shapes[morph.place].channels
    place = morph.place

    def conv(source: int) -> Conv:
        return Conv(inputs=(source,), channels=channels, kernel=3, padding=1)

    layers: list[Node] = [conv(place), BatchNorm(inputs=(place + 1,)), ReLU(inputs=(place + 2,))]
    if morph.layers == "block":
        layers += [conv(place + 3), BatchNorm(inputs=(place + 4,))]
        layers += [Add(inputs=(place + 5, place)), ReLU(inputs=(place + 6,))]
    return _insert(architecture, place, layers)


def _widen(architecture: Architecture, morph: Widen) -> Architecture:
    group_of = _channel_groups(architecture)
    nodes = list(architecture.nodes)
    for index, node in enumerate(nodes):
        if group_of[index] != group_of[morph.place]:
            continue
        if type(node) is Conv:
            nodes[index] = msgspec.structs.replace(node, channels=node.channels * WIDEN_FACTOR)
        elif type(node) is Dense:
            nodes[index] = msgspec.structs.replace(node, features=node.features * WIDEN_FACTOR)
    return Architecture(tuple(nodes))


def _skip(architecture: Architecture, morph: Skip) -> Architecture:
    channels = architecture.shapes[morph.target].channels
    path: list[Node] = []
    end = morph.source
    if architecture.shapes[morph.source].channels != channels:
        path.append(Conv(inputs=(end,), channels=channels, kernel=1))
        end = morph.target + len(path)
    path.append(BatchNorm(inputs=(end,)))
    path.append(Add(inputs=(morph.target, morph.target + len(path))))
    return _insert(architecture, morph.target, path)


def _insert(architecture: Architecture, place: int, layers: Sequence[Node]) -> Architecture:
    """Put ``layers`` behind node ``place``; what read that node reads the last of them.

    Inputs of ``layers`` are positions in the new network.
    """
    behind = place + 1

    def moved(node: Node) -> Node:
        inputs = tuple([source if source < place else source + len(layers) for source in node.inputs])
        return msgspec.structs.replace(node, inputs=inputs)

    nodes = architecture.nodes
    return Architecture((*nodes[:behind], *layers, *(moved(node) for node in nodes[behind:])))
