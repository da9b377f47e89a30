"""Counts of a whole network: the sum over its layers, per image."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
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
    """

    parameters: int
    activation_bytes: int
    aiperf_ops: Operations
    tensor_flops: Operations
    _architecture: Architecture = field(repr=False)
    _rows: tuple[LayerOperations, ...] = field(repr=False)

    @property
    def layers(self) -> tuple[LayerCount, ...]:
        """The same per layer."""
        nodes, shapes = self._architecture.nodes, self._architecture.shapes
        return tuple(
            LayerCount(
                position=position,
                op=OP_NAMES[type(nodes[position])],
                output_shape=shapes[position],
                parameters=row.parameters,
                activation_bytes=shapes[position].elements * BYTES_PER_FP32,
                aiperf_ops=Operations(row.aiperf_forward, row.aiperf_backward),
                tensor_flops=Operations(
                    row.tensor_forward, row.tensor_weight_gradient + row.tensor_input_gradient
                ),
            )
            for position, row in enumerate(self._rows)
        )


def count(architecture: Architecture) -> NetworkCount:
    """Count a network analytically.

    Raises:
        ArchitectureError: A layer has no formula; nothing is ever counted as zero by default.
    """
    rows = tuple(_rows(architecture))
    total = LayerOperations(*map(sum, zip(*rows, strict=True)))
    return NetworkCount(
        parameters=total.parameters,
        activation_bytes=sum(c * h * w for c, h, w in architecture.shapes) * BYTES_PER_FP32,
        aiperf_ops=Operations(total.aiperf_forward, total.aiperf_backward),
        tensor_flops=Operations(
            total.tensor_forward, total.tensor_weight_gradient + total.tensor_input_gradient
        ),
        _architecture=architecture,
        _rows=rows,
    )


def _rows(architecture: Architecture) -> Iterator[LayerOperations]:
    """Counts of each layer; an input gradient only where a parameter lies before the layer."""
    shapes = architecture.shapes
    seen_conv = False
    learned: list[bool] = []  # whether a parameter lies in or before each node
    for node, out in zip(architecture.nodes, shapes, strict=True):
        inputs = tuple([shapes[i] for i in node.inputs])
        row = _layer_operations(node, inputs, out, is_first_conv=not seen_conv)
        seen_conv = seen_conv or type(node) is Conv
        learned_before = True in [learned[i] for i in node.inputs]
        learned.append(learned_before or row.parameters > 0)
        if row.tensor_input_gradient and not learned_before:
            row = row._replace(tensor_input_gradient=0)
        yield row


def _layer_operations(
    node: Node, inputs: tuple[Shape, ...], out: Shape, *, is_first_conv: bool
) -> LayerOperations:
    if type(node) is Conv:
        return conv(node, inputs, out, is_first=is_first_conv)
    formula = FORMULAS.get(type(node))
    if formula is None:
        raise ArchitectureError(f"no counting formula for {type(node).__name__}")
    return formula(node, inputs, out)
