"""Morphs: changes of a network that can start from its parent's function.

Where a child's weights come from so that it computes what its parent does is told by
`aibench.architecture.inheritance`. Sources: Chen et al., "Net2Net: Accelerating Learning via Knowledge
Transfer", arXiv:1511.05641 (deeper by identities, wider by copies); Wei et al., "Network Morphism",
arXiv:1603.01670 (larger windows by zero padding, skips); Wang et al., zero-initialised residual blocks,
arXiv:2410.11038.

Places are node positions in the network that is morphed.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Collection, Sequence
from typing import Literal

import msgspec

from aibench.architecture.graph import Add, Architecture, BatchNorm, Concat, Conv, Dense, Node, ReLU
from aibench.architecture.morph_places import (
    channel_groups,
    enlargeable,
    equal_sided_pairs,
    rectified_maps,
    widenable,
)
from aibench.errors import ArchitectureError

WIDEN_FACTOR = 2
KERNEL_STEP = 2


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
    """Join the ReLU output at ``source`` to the later one at ``target``, of equal height and width.

    ``join`` is ``add`` for a sum; the path to it is a batch norm, behind a 1×1 convolution if the channels
    differ. ``concat`` puts both side by side, and a 1×1 convolution, batch norm and ReLU lead back to the
    target's channels.
    """

    source: int
    target: int
    join: Literal["add", "concat"]

    def __str__(self) -> str:
        return f"skip@{self.source}-{self.target}:{self.join}"


class EnlargeKernel(msgspec.Struct, frozen=True):
    """Let the window of the convolution at ``place`` grow by one on every side, to ``kernel``."""

    place: int
    kernel: int

    def __str__(self) -> str:
        return f"kernel@{self.place}:{self.kernel}"


Morph = Deepen | Widen | Skip | EnlargeKernel
Kinds = Collection[type[Morph]]

KINDS_BY_NAME: dict[str, type[Morph]] = {
    "deepen": Deepen,
    "widen": Widen,
    "skip": Skip,
    "kernel": EnlargeKernel,
}
ALL_KINDS: tuple[type[Morph], ...] = tuple(KINDS_BY_NAME.values())


def parse_morph(text: str) -> Morph:
    """The morph that ``text`` is the string of.

    Raises:
        ArchitectureError: It is the string of none.
    """
    for kind, pattern in _PATTERNS.items():
        if match := pattern.fullmatch(text):
            try:
                return msgspec.convert(match.groupdict(), kind, strict=False)
            except msgspec.ValidationError:
                break  # a place of more digits than a number may have
    raise ArchitectureError(
        f"morph {text[:60]!r}: expected such as deepen@3:conv, widen@7:x2, skip@3-9:add or kernel@7:5"
    )


def applicable(architecture: Architecture, *, kinds: Kinds = ALL_KINDS) -> list[Morph]:
    """All morphs of the network of these kinds, in a fixed order; empty if there is none."""
    return [morph for kind in ALL_KINDS if kind in kinds for morph in _FINDERS[kind](architecture)]


def apply(architecture: Architecture, morph: Morph) -> Architecture:
    """Morph the network.

    Raises:
        ArchitectureError: The network has no such place.
    """
    if morph not in applicable(architecture, kinds=(type(morph),)):
        raise ArchitectureError(f"morph {morph}: does not apply to this network")
    return _apply(architecture, morph)


def random_morph(
    architecture: Architecture, rng: random.Random, *, kinds: Kinds = ALL_KINDS
) -> tuple[Architecture, Morph]:
    """Draw one of these kinds of morph, then a place, both uniformly among those that apply.

    Raises:
        ArchitectureError: No morph of these kinds applies to the network.
    """
    allowed = [kind for kind in ALL_KINDS if kind in kinds]
    for kind in rng.sample(allowed, k=len(allowed)):
        if morphs := _FINDERS[kind](architecture):
            morph = rng.choice(morphs)
            return _apply(architecture, morph), morph
    raise ArchitectureError(
        "no morph applies: no ReLU on a map larger than 1×1, no channels free to widen, no window to enlarge"
    )


def _deepenings(architecture: Architecture) -> list[Morph]:
    morphs: list[Morph] = []
    for place in rectified_maps(architecture):
        morphs += [Deepen(place, "conv"), Deepen(place, "block")]
    return morphs


def _widenings(architecture: Architecture) -> list[Morph]:
    return [Widen(place) for place in widenable(architecture)]


def _skips(architecture: Architecture) -> list[Morph]:
    morphs: list[Morph] = []
    for source, target in equal_sided_pairs(architecture):
        morphs += [Skip(source, target, "add"), Skip(source, target, "concat")]
    return morphs


def _enlargements(architecture: Architecture) -> list[Morph]:
    return [EnlargeKernel(place, kernel + KERNEL_STEP) for place, kernel in enlargeable(architecture)]


_FINDERS: dict[type[Morph], Callable[[Architecture], list[Morph]]] = {
    Deepen: _deepenings,
    Widen: _widenings,
    Skip: _skips,
    EnlargeKernel: _enlargements,
}

_PATTERNS: dict[type[Morph], re.Pattern[str]] = {
    Deepen: re.compile(r"deepen@(?P<place>[0-9]+):(?P<layers>conv|block)"),
    Widen: re.compile(rf"widen@(?P<place>[0-9]+):x{WIDEN_FACTOR}"),
    Skip: re.compile(r"skip@(?P<source>[0-9]+)-(?P<target>[0-9]+):(?P<join>add|concat)"),
    EnlargeKernel: re.compile(r"kernel@(?P<place>[0-9]+):(?P<kernel>[0-9]+)"),
}


def _apply(architecture: Architecture, morph: Morph) -> Architecture:
    match morph:
        case Deepen():
            return _deepen(architecture, morph)
        case Widen():
            return _widen(architecture, morph)
        case Skip():
            return _skip(architecture, morph)
        case EnlargeKernel():
            return _enlarge(architecture, morph)


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
    group_of = channel_groups(architecture)
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
    source, target = morph.source, morph.target
    channels = architecture.shapes[target].channels
    layers: list[Node] = []
    if morph.join == "concat":
        layers = [
            Concat(inputs=(target, source)),
            Conv(inputs=(target + 1,), channels=channels, kernel=1),
            BatchNorm(inputs=(target + 2,)),
            ReLU(inputs=(target + 3,)),
        ]
    elif architecture.shapes[source].channels == channels:
        layers = [BatchNorm(inputs=(source,)), Add(inputs=(target, target + 1))]
    else:
        layers = [
            Conv(inputs=(source,), channels=channels, kernel=1),
            BatchNorm(inputs=(target + 1,)),
            Add(inputs=(target, target + 2)),
        ]
    return _insert(architecture, target, layers)


def _enlarge(architecture: Architecture, morph: EnlargeKernel) -> Architecture:
    nodes = list(architecture.nodes)
    conv = nodes[morph.place]
    nodes[morph.place] = msgspec.structs.replace(conv, kernel=morph.kernel, padding=morph.kernel // 2)
    return Architecture(tuple(nodes))


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
