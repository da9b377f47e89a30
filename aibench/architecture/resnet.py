"""Residual networks, version 1 and 1.5, as initial architectures.

Sources: He et al., "Deep Residual Learning for Image Recognition", arXiv:1512.03385 (table 1, and section
4.2 for small images). Version 1 puts the stride of a stage into the first 1×1 convolution of its first
bottleneck, as the paper does; version 1.5 into the 3×3, as MLPerf and torchvision do. Basic blocks (18, 34)
have no 1×1 to choose from, so both versions are the same network.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from aibench.architecture.graph import (
    Add,
    Architecture,
    BatchNorm,
    Conv,
    Dense,
    GlobalAvgPool,
    Input,
    MaxPool,
    Node,
    ReLU,
    Shape,
)
from aibench.errors import ArchitectureError

_BLOCKS: dict[int, tuple[int, ...]] = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}
_BOTTLENECK_DEPTHS = (50, 101, 152)
_BOTTLENECK_EXPANSION = 4
_SMALL_IMAGE_SIDE = 64
IMAGENET_WIDTH = 64

NAMES = tuple(f"resnet{depth}{suffix}" for depth in _BLOCKS for suffix in ("", "-v1"))


def resnet(name: str, input_shape: Shape, num_classes: int, *, width: int = IMAGENET_WIDTH) -> Architecture:
    """Build a residual network by name.

    Args:
        name: ``resnet18``, ``resnet34``, ``resnet50``, ``resnet101`` or ``resnet152`` for version 1.5, with
            suffix ``-v1`` for version 1.
        input_shape: Shape of one image. Sides up to 64 get the small-image stem of the paper's section 4.2
            (one 3×3 convolution, no pooling) instead of the 7×7 convolution and max pool.
        num_classes: Number of outputs.
        width: Channels of the first stage; later stages double it.

    Raises:
        ArchitectureError: Unknown name, or an image too small for the network.
    """
    match = re.fullmatch(r"resnet(\d+)(-v1)?", name)
    if match is None or int(match[1]) not in _BLOCKS:
        raise ArchitectureError(f"architecture {name!r}: expected one of {', '.join(NAMES)}")
    depth = int(match[1])
    draft = _Draft([Input(channels=input_shape.channels, height=input_shape.height, width=input_shape.width)])
    x = _stem(draft, input_shape, width)
    for stage, num_blocks in enumerate(_BLOCKS[depth]):
        for block in range(num_blocks):
            stride = 2 if stage and not block else 1
            channels = width * 2**stage
            if depth in _BOTTLENECK_DEPTHS:
                is_v1 = match[2] is not None
                x = _bottleneck(draft, x, channels, stride, stride_first=is_v1, project=not block)
            else:
                x = _basic(draft, x, channels, stride, project=not block and bool(stage))
    x = draft.add(GlobalAvgPool(inputs=(x,)))
    draft.add(Dense(inputs=(x,), features=num_classes))
    return Architecture(tuple(draft.nodes))


@dataclass
class _Draft:
    nodes: list[Node] = field(default_factory=list)

    def add(self, node: Node) -> int:
        self.nodes.append(node)
        return len(self.nodes) - 1

    def conv_norm(self, x: int, channels: int, kernel: int, stride: int = 1) -> int:
        conv = Conv(inputs=(x,), channels=channels, kernel=kernel, stride=stride, padding=kernel // 2)
        return self.add(BatchNorm(inputs=(self.add(conv),)))

    def relu(self, x: int) -> int:
        return self.add(ReLU(inputs=(x,)))


def _stem(draft: _Draft, input_shape: Shape, width: int) -> int:
    if max(input_shape.height, input_shape.width) <= _SMALL_IMAGE_SIDE:
        return draft.relu(draft.conv_norm(0, width, kernel=3))
    x = draft.relu(draft.conv_norm(0, width, kernel=7, stride=2))
    return draft.add(MaxPool(inputs=(x,), kernel=3, stride=2, padding=1))


def _bottleneck(
    draft: _Draft, x: int, channels: int, stride: int, *, stride_first: bool, project: bool
) -> int:
    out_channels = channels * _BOTTLENECK_EXPANSION
    first_stride, middle_stride = (stride, 1) if stride_first else (1, stride)
    y = draft.relu(draft.conv_norm(x, channels, kernel=1, stride=first_stride))
    y = draft.relu(draft.conv_norm(y, channels, kernel=3, stride=middle_stride))
    y = draft.conv_norm(y, out_channels, kernel=1)
    shortcut = draft.conv_norm(x, out_channels, kernel=1, stride=stride) if project else x
    return draft.relu(draft.add(Add(inputs=(y, shortcut))))


def _basic(draft: _Draft, x: int, channels: int, stride: int, *, project: bool) -> int:
    y = draft.relu(draft.conv_norm(x, channels, kernel=3, stride=stride))
    y = draft.conv_norm(y, channels, kernel=3)
    shortcut = draft.conv_norm(x, channels, kernel=1, stride=stride) if project else x
    return draft.relu(draft.add(Add(inputs=(y, shortcut))))
