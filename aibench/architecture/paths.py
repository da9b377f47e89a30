"""How many layers lie on the paths from the image to the output."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from aibench.architecture.graph import Architecture, Node


class PathLengths(NamedTuple):
    """Fewest and most layers on a path."""

    shortest: int
    longest: int


def path_lengths(architecture: Architecture, kinds: Collection[type[Node]]) -> PathLengths:
    """Count layers of these kinds on the shortest and on the longest path from the image to the output."""
    shortest: list[int] = []
    longest: list[int] = []
    for node in architecture.nodes:
        own = 1 if type(node) in kinds else 0
        if len(node.inputs) == 1:
            shortest.append(shortest[node.inputs[0]] + own)
            longest.append(longest[node.inputs[0]] + own)
        else:
            shortest.append(own + min([shortest[source] for source in node.inputs], default=0))
            longest.append(own + max([longest[source] for source in node.inputs], default=0))
    return PathLengths(shortest[-1], longest[-1])
