"""One small function per layer kind: shapes in, exact integers out. Formulas: `aibench.counting.conventions`.

Letters: k kernel side, C input channels, M output channels, H and W output sides, N elements.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from aibench.architecture import (
    Add,
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
    Shape,
)

BATCH_NORM_OPS_PER_ELEMENT = 7
BATCH_NORM_BACKWARD_OPS = 36
DIVIDE_OPS = 4
EXPONENTIAL_OPS = 8


class LayerOperations(NamedTuple):
    """Counts of one layer for one image.

    ``tensor_weight_gradient`` and ``tensor_input_gradient`` are the two halves of the tensor backward; the
    second is only due when something before the layer has parameters.
    """

    parameters: int = 0
    aiperf_forward: int = 0
    aiperf_backward: int = 0
    tensor_forward: int = 0
    tensor_weight_gradient: int = 0
    tensor_input_gradient: int = 0


def conv(node: Conv, inputs: tuple[Shape, ...], out: Shape, *, is_first: bool) -> LayerOperations:
    """Convolution; ``is_first`` marks the network's first one, which aiperf-v1 charges no input gradient."""
    weights = node.kernel**2 * (inputs[0].channels // node.groups) * node.channels
    positions = out.height * out.width
    macs_twice = 2 * positions * weights
    return LayerOperations(
        parameters=weights + (node.channels if node.bias else 0),
        aiperf_forward=macs_twice,
        aiperf_backward=weights * ((2 if is_first else 4) * positions + 2),
        tensor_forward=macs_twice,
        tensor_weight_gradient=macs_twice,
        tensor_input_gradient=macs_twice,
    )


def dense(node: Dense, inputs: tuple[Shape, ...], _: Shape) -> LayerOperations:
    """Dense layer with its softmax."""
    c, m = inputs[0].channels, node.features
    softmax = EXPONENTIAL_OPS * m + (m - 1) + DIVIDE_OPS * m
    return LayerOperations(
        parameters=(c + 1) * m,
        aiperf_forward=2 * c * m + softmax,
        aiperf_backward=4 * c * m + 2 * (c + 1) * m,
        tensor_forward=2 * c * m,
        tensor_weight_gradient=2 * c * m,
        tensor_input_gradient=2 * c * m,
    )


def batch_norm(_: BatchNorm, inputs: tuple[Shape, ...], __: Shape) -> LayerOperations:
    """Batch normalisation with scale and shift."""
    return LayerOperations(
        parameters=2 * inputs[0].channels,
        aiperf_forward=BATCH_NORM_OPS_PER_ELEMENT * inputs[0].elements,
        aiperf_backward=BATCH_NORM_BACKWARD_OPS,
    )


def relu(_: ReLU, inputs: tuple[Shape, ...], __: Shape) -> LayerOperations:
    """One comparison per element."""
    return LayerOperations(aiperf_forward=inputs[0].elements)


def add(_: Add, inputs: tuple[Shape, ...], __: Shape) -> LayerOperations:
    """One addition per element and input after the first."""
    return LayerOperations(aiperf_forward=(len(inputs) - 1) * inputs[0].elements)


def max_pool(node: MaxPool, inputs: tuple[Shape, ...], _: Shape) -> LayerOperations:
    """Comparisons over all windows, from the input's elements as aiperf-v1 does."""
    return LayerOperations(aiperf_forward=inputs[0].elements * node.kernel**2 // node.stride**2)


def global_avg_pool(_: GlobalAvgPool, inputs: tuple[Shape, ...], __: Shape) -> LayerOperations:
    """One sum and one division per channel."""
    c, h, w = inputs[0]
    return LayerOperations(aiperf_forward=(h * w - 1) * c + DIVIDE_OPS * c)


def free(_: Any, __: tuple[Shape, ...], ___: Shape) -> LayerOperations:
    """A layer without counted operations."""
    return LayerOperations()


# Every layer kind but the convolution, which also needs its place in the network.
FORMULAS: dict[type, Callable[[Any, tuple[Shape, ...], Shape], LayerOperations]] = {
    Input: free,
    BatchNorm: batch_norm,
    ReLU: relu,
    Add: add,
    Concat: free,
    MaxPool: max_pool,
    GlobalAvgPool: global_avg_pool,
    Dropout: free,
    Flatten: free,
    Dense: dense,
}
