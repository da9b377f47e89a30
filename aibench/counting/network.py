"""Counts of a whole network: the sum over its layers, per image."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from aibench.architecture import OP_NAMES, Architecture, Conv, Node, Shape
from aibench.counting.layers import FORMULAS, LayerOperations, conv
from aibench.errors import ArchitectureError

BYTES_PER_FP32 = 4


class Operations(NamedTuple):
    """Operations per image under one convention."""

    forward: int
    backward: int

    @property
    def train(self) -> int:
        """Forward and backward."""
        return self.forward + self.backward


class LayerCount(NamedTuple):
    """Counts of one layer, per image."""

    position: int
    op: str
    output_shape: Shape
    parameters: int
    activation_bytes: int
    aiperf_ops: Operations
    tensor_flops: Operations


@dataclass(frozen=True, kw_only=True, slots=True)
class NetworkCount:
    """Counts of one network, per image; exact integers.

    Attributes:
        parameters: Learned values.
        activation_bytes: Outputs of all layers in FP32, what training keeps for the backward pass.
        aiperf_ops: Weighted operations for the score, rule set ``aiperf-v1``.
        tensor_flops: Convolutions and matrix products for efficiency; one multiply-add is 2.
        layers: The same per layer.
    """

    parameters: int
    activation_bytes: int
    aiperf_ops: Operations
    tensor_flops: Operations
    layers: tuple[LayerCount, ...]


def count(architecture: Architecture) -> NetworkCount:
    """Count a network analytically.

    Raises:
        ArchitectureError: A layer has no formula; nothing is ever counted as zero by default.
    """
    layers = tuple(_layer_counts(architecture))
    return NetworkCount(
        parameters=sum(layer.parameters for layer in layers),
        activation_bytes=sum(layer.activation_bytes for layer in layers),
        aiperf_ops=_total(layer.aiperf_ops for layer in layers),
        tensor_flops=_total(layer.tensor_flops for layer in layers),
        layers=layers,
    )


def _layer_counts(architecture: Architecture) -> Iterable[LayerCount]:
    shapes = architecture.shapes
    seen_conv = False
    learned: list[bool] = []  # whether a parameter lies in or before each node
    for index, node in enumerate(architecture.nodes):
        inputs = tuple([shapes[i] for i in node.inputs])
        operations = _layer_operations(node, inputs, shapes[index], is_first_conv=not seen_conv)
        seen_conv = seen_conv or type(node) is Conv
        learned_before = any(map(learned.__getitem__, node.inputs))
        learned.append(learned_before or operations.parameters > 0)
        yield LayerCount(
            position=index,
            op=OP_NAMES[type(node)],
            output_shape=shapes[index],
            parameters=operations.parameters,
            activation_bytes=shapes[index].elements * BYTES_PER_FP32,
            aiperf_ops=Operations(forward=operations.aiperf_forward, backward=operations.aiperf_backward),
            tensor_flops=Operations(
                forward=operations.tensor_forward,
                backward=operations.tensor_weight_gradient
                + (operations.tensor_input_gradient if learned_before else 0),
            ),
        )


def _layer_operations(
    node: Node, inputs: tuple[Shape, ...], out: Shape, *, is_first_conv: bool
) -> LayerOperations:
    if type(node) is Conv:
        return conv(node, inputs, out, is_first=is_first_conv)
    formula = FORMULAS.get(type(node))
    if formula is None:
        raise ArchitectureError(f"no counting formula for {type(node).__name__}")
    return formula(node, inputs, out)


def _total(parts: Iterable[Operations]) -> Operations:
    parts = list(parts)
    return Operations(forward=sum(p.forward for p in parts), backward=sum(p.backward for p in parts))
