"""Where a network can be morphed: rectified maps, channel groups that may grow, windows that may.

A channel group is all nodes that must have equal channel counts: what sums join, and the per-channel layers
between. It is named by one of its nodes.
"""

from __future__ import annotations

from collections.abc import Sequence

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
    Input,
    MaxPool,
    ReLU,
)

MAX_KERNEL = 7

# Layers whose output channels are their input's: what is widened before them is widened behind them.
# Flatten is one of them because only ratios matter: C times more channels are C times more features.
_PER_CHANNEL = frozenset({BatchNorm, ReLU, Add, MaxPool, GlobalAvgPool, Dropout, Flatten})
_PRODUCERS = frozenset({Input, Conv, Dense, Concat})


def rectified_maps(architecture: Architecture) -> list[int]:
    """ReLUs on maps larger than 1×1: behind the global pooling there is nothing for a window to see."""
    return [
        index
        for index, (node, shape) in enumerate(zip(architecture.nodes, architecture.shapes, strict=True))
        if type(node) is ReLU and shape[1:] != (1, 1)
    ]


def equal_sided_pairs(architecture: Architecture) -> list[tuple[int, int]]:
    """Pairs of rectified maps of equal height and width, the earlier one first."""
    by_sides: dict[tuple[int, ...], list[int]] = {}
    for place in rectified_maps(architecture):
        by_sides.setdefault(architecture.shapes[place][1:], []).append(place)
    return [
        (source, target)
        for places in by_sides.values()
        for rank, target in enumerate(places)
        for source in places[:rank]
    ]


def widenable(architecture: Architecture) -> list[int]:
    """The first convolution or dense layer of every channel group that is free to grow."""
    group_of = channel_groups(architecture)
    taken = _fixed_groups(architecture, group_of)
    places: list[int] = []
    for index, node in enumerate(architecture.nodes):
        if type(node) in (Conv, Dense) and group_of[index] not in taken:
            taken.add(group_of[index])
            places.append(index)
    return places


def enlargeable(architecture: Architecture) -> list[tuple[int, int]]:
    """Convolutions whose window may grow by one on every side, and its side now.

    They look around and keep their map's size by padding. A strided one on the image itself is left alone:
    the 7×7 stem of ImageNet networks belongs to the preprocessing more than to the search. A window grows to
    7×7 at most, and no further than its map reaches: a weight that sees only padding learns nothing.
    """
    return [
        (index, node.kernel)
        for index, node in enumerate(architecture.nodes)
        if type(node) is Conv
        and node.kernel % 2
        and 1 < node.kernel < MAX_KERNEL
        and node.padding == node.kernel // 2
        and not (node.inputs == (0,) and node.stride > 1)
        and node.padding + 1 < min(architecture.shapes[node.inputs[0]][1:])
    ]


def channel_groups(architecture: Architecture) -> list[int]:
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
    """Groups that must keep their channels: image, output, what meets a grouped conv or feeds a fixed concat.

    A concat's output grows with its inputs. That is fine while only its own channels reach its group; what a
    sum ties to other producers cannot follow.
    """
    nodes = architecture.nodes
    fixed = {group_of[0], group_of[-1]}
    produced: set[int] = set()
    tied: set[int] = set()
    for index, node in enumerate(nodes):
        if type(node) is Conv and node.groups > 1:
            fixed.update(group_of[place] for place in (index, *node.inputs))
        if type(node) in _PRODUCERS:
            (tied if group_of[index] in produced else produced).add(group_of[index])
    for index in reversed(range(len(nodes))):
        node, group = nodes[index], group_of[index]
        if type(node) is Concat and (group in fixed or group in tied):
            fixed.add(group)
            fixed.update(group_of[source] for source in node.inputs)
    return fixed
