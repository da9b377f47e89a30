"""A network as an immutable graph of typed layers with inferred shapes and a content hash.

Nodes stand in topological order and name their inputs by index. Channel counts of inputs are never
stored: they follow from the shapes, so a morph that widens one layer cannot leave another behind.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Any, NamedTuple

import msgspec

from aibench.errors import ArchitectureError

FORMAT = "aibench-architecture/1"

PositiveInt = Annotated[int, msgspec.Meta(ge=1)]
NonNegativeInt = Annotated[int, msgspec.Meta(ge=0)]
Rate = Annotated[float, msgspec.Meta(ge=0.0, lt=1.0)]


class Shape(NamedTuple):
    """Shape of one activation of one image: channels, height, width."""

    channels: int
    height: int
    width: int

    @property
    def elements(self) -> int:
        """Number of elements per image."""
        return self.channels * self.height * self.width

    def __str__(self) -> str:
        return f"{self.channels}×{self.height}×{self.width}"


class _Node(
    msgspec.Struct, frozen=True, gc=False, tag_field="op", forbid_unknown_fields=True, omit_defaults=True
):
    inputs: tuple[NonNegativeInt, ...] = ()


class Input(_Node, frozen=True, tag="input", kw_only=True):
    """The image."""

    channels: PositiveInt
    height: PositiveInt
    width: PositiveInt


class Conv(_Node, frozen=True, tag="conv", kw_only=True):
    """2-D convolution with square kernel."""

    channels: PositiveInt
    kernel: PositiveInt
    stride: PositiveInt = 1
    padding: NonNegativeInt = 0
    groups: PositiveInt = 1
    bias: bool = False


class BatchNorm(_Node, frozen=True, tag="batch_norm", kw_only=True):
    """Batch normalisation with a learned scale and shift per channel."""


class ReLU(_Node, frozen=True, tag="relu", kw_only=True):
    """Rectifier."""


class Add(_Node, frozen=True, tag="add", kw_only=True):
    """Element-wise sum of inputs of equal shape."""


class Concat(_Node, frozen=True, tag="concat", kw_only=True):
    """Concatenation along the channels."""


class MaxPool(_Node, frozen=True, tag="max_pool", kw_only=True):
    """Maximum over square windows."""

    kernel: PositiveInt
    stride: PositiveInt
    padding: NonNegativeInt = 0


class GlobalAvgPool(_Node, frozen=True, tag="global_avg_pool", kw_only=True):
    """Mean over height and width."""


class Dropout(_Node, frozen=True, tag="dropout", kw_only=True):
    """Random zeroing while training."""

    rate: Rate


class Flatten(_Node, frozen=True, tag="flatten", kw_only=True):
    """All elements into the channel axis."""


class Dense(_Node, frozen=True, tag="dense", kw_only=True):
    """Fully connected layer with bias."""

    features: PositiveInt


Node = Input | Conv | BatchNorm | ReLU | Add | Concat | MaxPool | GlobalAvgPool | Dropout | Flatten | Dense


@dataclass(frozen=True)
class Architecture:
    """A network that can be built and counted.

    Attributes:
        nodes: Layers in topological order; the first is the only ``Input``, the last is the output, and
            every other one feeds a later one.
        shapes: Output shape of each node, inferred.

    Raises:
        ArchitectureError: The nodes do not form such a network; the message names the node.
    """

    nodes: tuple[Node, ...]
    shapes: tuple[Shape, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "shapes", _infer_shapes(self.nodes))
        _check_connected(self.nodes)

    @property
    def input_shape(self) -> Shape:
        """Shape of one image."""
        return self.shapes[0]

    @property
    def output_shape(self) -> Shape:
        """Shape of the last node's output."""
        return self.shapes[-1]

    def input_shapes(self, index: int) -> tuple[Shape, ...]:
        """Shapes that enter node ``index``."""
        return tuple(self.shapes[i] for i in self.nodes[index].inputs)

    @cached_property
    def content_hash(self) -> str:
        """SHA-256 of the canonical JSON, in hex: equal networks have equal hashes."""
        return hashlib.sha256(self.to_json()).hexdigest()

    def share(self, known: dict[Node | Shape, Node | Shape]) -> None:
        """Hold layers and shapes that equal ones in ``known`` as the same objects, and add the others there.

        Of thousands of networks that are kept, most are alike in most layers.
        """
        for name in ("nodes", "shapes"):
            parts = tuple([known.setdefault(part, part) for part in getattr(self, name)])
            object.__setattr__(self, name, parts)

    def to_json(self) -> bytes:
        """Canonical JSON: sorted keys, no white space, defaults left out."""
        return msgspec.json.encode(self.to_document(), order="sorted")

    def to_document(self) -> ArchitectureDocument:
        """The same network as the structure that stands in files, messages and the journal."""
        return ArchitectureDocument(nodes=self.nodes)

    @classmethod
    def from_json(cls, data: bytes | str) -> Architecture:
        """Read what `to_json` wrote.

        Raises:
            ArchitectureError: Not JSON, not of this format, or not a network.
        """
        try:
            return msgspec.json.decode(data, type=ArchitectureDocument).to_architecture()
        except msgspec.MsgspecError as error:
            raise ArchitectureError(f"not an architecture of format {FORMAT}: {error}") from error


class ArchitectureDocument(msgspec.Struct, frozen=True, gc=False, kw_only=True, forbid_unknown_fields=True):
    """An architecture as it is written: not yet checked, no shapes."""

    nodes: tuple[Node, ...]
    format: str = FORMAT

    def to_architecture(self) -> Architecture:
        """Check and infer.

        Raises:
            ArchitectureError: Another format, or not a network.
        """
        if self.format != FORMAT:
            raise ArchitectureError(f"architecture format {self.format!r}: expected {FORMAT!r}")
        return Architecture(self.nodes)


def _infer_shapes(nodes: Sequence[Node]) -> tuple[Shape, ...]:
    if not nodes or type(nodes[0]) is not Input:
        raise ArchitectureError("node 0 must be the input")
    shapes: list[Shape] = []
    for index, node in enumerate(nodes):
        rule = _SHAPE_RULES.get(type(node))
        if rule is None:
            raise ArchitectureError(f"node {index}: {type(node).__name__} is not a layer")
        arity, infer = rule
        if len(node.inputs) != arity or not arity or max(node.inputs) >= index:
            _check_inputs(index, node, arity)
        try:
            shapes.append(infer(node, [shapes[i] for i in node.inputs]))
        except ValueError as error:
            raise ArchitectureError(f"node {index} ({OP_NAMES[type(node)]}): {error}") from error
    return tuple(shapes)


def _check_inputs(index: int, node: Node, arity: int | None) -> None:
    problem = None
    late = [source for source in node.inputs if source >= index]
    if late:
        problem = f"input {late[0]} is not an earlier node"
    elif arity is None and len(node.inputs) < 2:
        problem = f"has {len(node.inputs)} inputs, expected 2 or more"
    elif arity is not None and len(node.inputs) != arity:
        problem = f"has {len(node.inputs)} inputs, expected {arity}"
    elif arity == 0 and index:
        problem = "a second input"
    if problem:
        raise ArchitectureError(f"node {index} ({OP_NAMES[type(node)]}): {problem}")


def _check_connected(nodes: Sequence[Node]) -> None:
    used = {source for node in nodes for source in node.inputs}
    loose = [index for index in range(len(nodes) - 1) if index not in used]
    if loose:
        raise ArchitectureError(f"node {loose[0]} ({OP_NAMES[type(nodes[loose[0]])]}): feeds no later node")


def window_output_side(side: int, kernel: int, stride: int, padding: int) -> int:
    """Output side of a sliding window: floor((side + 2·padding - kernel) / stride) + 1.

    Raises:
        ValueError: The window does not fit once.
    """
    span = side + 2 * padding - kernel
    if span < 0:
        raise ValueError(f"kernel {kernel} does not fit a side of {side} with padding {padding}")
    return span // stride + 1


def _input_shape(node: Any, _: list[Shape]) -> Shape:
    return Shape(node.channels, node.height, node.width)


def _conv_shape(node: Any, inputs: list[Shape]) -> Shape:
    (x,) = inputs
    if node.groups != 1 and (x.channels % node.groups or node.channels % node.groups):
        raise ValueError(f"{x.channels} → {node.channels} channels do not divide into {node.groups} groups")
    return Shape(node.channels, *_window(x, node))


def _max_pool_shape(node: Any, inputs: list[Shape]) -> Shape:
    if 2 * node.padding > node.kernel:
        raise ValueError(f"padding {node.padding} exceeds half of kernel {node.kernel}")
    return Shape(inputs[0].channels, *_window(inputs[0], node))


def _window(x: Shape, node: Any) -> tuple[int, int]:
    return (
        window_output_side(x.height, node.kernel, node.stride, node.padding),
        window_output_side(x.width, node.kernel, node.stride, node.padding),
    )


def _same_shape(_: Any, inputs: list[Shape]) -> Shape:
    return inputs[0]


def _add_shape(_: Any, inputs: list[Shape]) -> Shape:
    if any(shape != inputs[0] for shape in inputs):
        raise ValueError(f"inputs differ in shape: {', '.join(map(str, inputs))}")
    return inputs[0]


def _concat_shape(_: Any, inputs: list[Shape]) -> Shape:
    if any(shape[1:] != inputs[0][1:] for shape in inputs):
        raise ValueError(f"inputs differ in height or width: {', '.join(map(str, inputs))}")
    return Shape(sum(shape.channels for shape in inputs), *inputs[0][1:])


def _global_avg_pool_shape(_: Any, inputs: list[Shape]) -> Shape:
    return Shape(inputs[0].channels, 1, 1)


def _flatten_shape(_: Any, inputs: list[Shape]) -> Shape:
    return Shape(inputs[0].elements, 1, 1)


def _dense_shape(node: Any, inputs: list[Shape]) -> Shape:
    if inputs[0][1:] != (1, 1):
        raise ValueError(f"input is {inputs[0]}, expected C×1×1 (pool or flatten first)")
    return Shape(node.features, 1, 1)


# Node type -> (number of inputs, None for two or more; shape rule).
_SHAPE_RULES: dict[type[_Node], tuple[int | None, Callable[[Any, list[Shape]], Shape]]] = {
    Input: (0, _input_shape),
    Conv: (1, _conv_shape),
    BatchNorm: (1, _same_shape),
    ReLU: (1, _same_shape),
    Add: (None, _add_shape),
    Concat: (None, _concat_shape),
    MaxPool: (1, _max_pool_shape),
    GlobalAvgPool: (1, _global_avg_pool_shape),
    Dropout: (1, _same_shape),
    Flatten: (1, _flatten_shape),
    Dense: (1, _dense_shape),
}

OP_NAMES: dict[type[_Node], str] = {kind: str(kind.__struct_config__.tag) for kind in _SHAPE_RULES}
