"""Hand-made networks with every kind of layer, and the morphs of a network as words."""

from __future__ import annotations

from functools import cache

from aibench.architecture import (
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
    Shape,
)
from aibench.architecture.morphs import (
    ALL_KINDS,
    Kinds,
    Widen,
    applicable,
)
from aibench.architecture.resnet import resnet

IMAGE = Input(channels=3, height=8, width=8)

PLAIN = Architecture(
    (
        IMAGE,
        Conv(inputs=(0,), channels=4, kernel=3, padding=1),
        BatchNorm(inputs=(1,)),
        ReLU(inputs=(2,)),
        GlobalAvgPool(inputs=(3,)),
        Dense(inputs=(4,), features=10),
    )
)

TWO_WIDTHS = Architecture(
    (
        IMAGE,
        Conv(inputs=(0,), channels=4, kernel=3, padding=1),
        ReLU(inputs=(1,)),
        Conv(inputs=(2,), channels=4, kernel=3, padding=1),
        ReLU(inputs=(3,)),
        Conv(inputs=(4,), channels=6, kernel=3, padding=1),
        ReLU(inputs=(5,)),
        GlobalAvgPool(inputs=(6,)),
        Dense(inputs=(7,), features=10),
    )
)

INCEPTION = Architecture(
    (
        Input(channels=3, height=12, width=10),
        Conv(inputs=(0,), channels=8, kernel=3, padding=1, bias=True),
        ReLU(inputs=(1,)),
        MaxPool(inputs=(2,), kernel=2, stride=2),
        Conv(inputs=(3,), channels=4, kernel=1),
        ReLU(inputs=(4,)),
        Conv(inputs=(3,), channels=6, kernel=3, padding=1),
        ReLU(inputs=(6,)),
        MaxPool(inputs=(3,), kernel=3, stride=1, padding=1),
        Concat(inputs=(5, 7, 8)),
        Conv(inputs=(9,), channels=8, kernel=3, padding=1),
        BatchNorm(inputs=(10,)),
        ReLU(inputs=(11,)),
        Dropout(inputs=(12,), rate=0.2),
        Flatten(inputs=(13,)),
        Dense(inputs=(14,), features=16),
        ReLU(inputs=(15,)),
        Dropout(inputs=(16,), rate=0.5),
        Dense(inputs=(17,), features=7),
    )
)

GROUPED = Architecture(
    (
        IMAGE,
        Conv(inputs=(0,), channels=8, kernel=3, padding=1),
        ReLU(inputs=(1,)),
        Conv(inputs=(2,), channels=8, kernel=3, padding=1, groups=4),
        ReLU(inputs=(3,)),
        Conv(inputs=(4,), channels=6, kernel=1),
        ReLU(inputs=(5,)),
        GlobalAvgPool(inputs=(6,)),
        Dense(inputs=(7,), features=10),
    )
)

IMAGE_IN_A_SUM = Architecture(
    (
        IMAGE,
        Conv(inputs=(0,), channels=3, kernel=3, padding=1),
        Add(inputs=(1, 0)),
        ReLU(inputs=(2,)),
        GlobalAvgPool(inputs=(3,)),
        Dense(inputs=(4,), features=10),
    )
)

UNMORPHABLE = Architecture((IMAGE, GlobalAvgPool(inputs=(0,)), Dense(inputs=(1,), features=10)))


@cache
def network(name: str) -> Architecture:
    hand_made = {"plain": PLAIN, "two widths": TWO_WIDTHS, "inception": INCEPTION, "grouped": GROUPED}
    if name in hand_made:
        return hand_made[name]
    depth, side = name.split("@")
    return resnet(depth, Shape(3, int(side), int(side)), num_classes=10)


RESNETS = [
    f"resnet{depth}{version}@{side}"
    for depth in (18, 34, 50)
    for version in ("", "-v1")
    for side in (8, 32, 224)
]


def words(architecture: Architecture, kinds: Kinds = ALL_KINDS) -> list[str]:
    return [str(morph) for morph in applicable(architecture, kinds=kinds)]


def widenings(architecture: Architecture) -> list[str]:
    return words(architecture, kinds=(Widen,))
