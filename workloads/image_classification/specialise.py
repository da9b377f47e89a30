"""Hyper-parameters that change the network, as edits of its graph.

Candidates are morphs of networks that were specialised before. So every edit replaces what an earlier one
left, and repeating one changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from aibench.api.space import Scalar
from aibench.api.workload import HyperParameters
from aibench.architecture import Architecture, Conv, Dense, Dropout, Node
from aibench.errors import ArchitectureError
from workloads.image_classification.hyperparameters import DROPOUT, KERNEL_SIZE


def specialise(architecture: Architecture, hyper_parameters: HyperParameters) -> Architecture:
    """Apply ``kernel_size`` and ``dropout`` where they are given; all other names are left to the trainer.

    Raises:
        ArchitectureError: A value fits no network, or the network has no dense layer at its end.
    """
    if KERNEL_SIZE in hyper_parameters:
        architecture = _with_kernel_size(architecture, hyper_parameters[KERNEL_SIZE])
    if DROPOUT in hyper_parameters:
        architecture = _with_dropout(architecture, hyper_parameters[DROPOUT])
    return architecture


def _with_kernel_size(architecture: Architecture, kernel: Scalar) -> Architecture:
    """Give every convolution that looks around, and keeps its map's size by padding, this window.

    Exempt are 1×1 convolutions and a strided one on the image itself: the 7×7 stem of ImageNet networks is
    followed by a max pool and belongs to the preprocessing more than to the search.
    """
    if not isinstance(kernel, int) or kernel < 3 or kernel % 2 == 0:
        raise ArchitectureError(f"{KERNEL_SIZE} {kernel!r}: expected an odd whole number from 3 on")
    return Architecture(tuple([_with_kernel(node, kernel) for node in architecture.nodes]))


def _with_kernel(node: Node, kernel: int) -> Node:
    if type(node) is not Conv or node.kernel % 2 == 0 or node.kernel == 1 or node.padding != node.kernel // 2:
        return node
    if node.inputs == (0,) and node.stride > 1:
        return node
    return msgspec.structs.replace(node, kernel=kernel, padding=kernel // 2)


def _with_dropout(architecture: Architecture, rate: Scalar) -> Architecture:
    """Put one dropout of this rate before the last layer; rate 0 leaves none there."""
    if isinstance(rate, str) or not 0 <= rate < 1:
        raise ArchitectureError(f"{DROPOUT} {rate!r}: expected a number from 0 to below 1")
    nodes = list(architecture.nodes)
    if type(nodes[-1]) is not Dense:
        raise ArchitectureError(
            f"the last layer is {type(nodes[-1]).__name__}: {DROPOUT} expects Dense there"
        )
    while (place := _classifier_dropout(nodes)) is not None:
        nodes = _without(nodes, place)
    if rate > 0:
        dense = nodes.pop()
        nodes.append(Dropout(inputs=dense.inputs, rate=float(rate)))
        nodes.append(msgspec.structs.replace(dense, inputs=(len(nodes) - 1,)))
    return Architecture(tuple(nodes))


def _classifier_dropout(nodes: Sequence[Node]) -> int | None:
    (source,) = nodes[-1].inputs
    return source if type(nodes[source]) is Dropout else None


def _without(nodes: Sequence[Node], place: int) -> list[Node]:
    """Take a layer with one input out; its input takes its place."""
    (bypass,) = nodes[place].inputs

    def moved(source: int) -> int:
        if source == place:
            return bypass
        return source - 1 if source > place else source

    return [
        msgspec.structs.replace(node, inputs=tuple([moved(source) for source in node.inputs]))
        for index, node in enumerate(nodes)
        if index != place
    ]
