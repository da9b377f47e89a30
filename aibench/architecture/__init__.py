"""Immutable network descriptions: the one value that is counted, built and searched."""

from aibench.architecture.graph import (
    OP_NAMES,
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
    Node,
    ReLU,
    Shape,
)

__all__ = [
    "OP_NAMES",
    "Add",
    "Architecture",
    "BatchNorm",
    "Concat",
    "Conv",
    "Dense",
    "Dropout",
    "Flatten",
    "GlobalAvgPool",
    "Input",
    "MaxPool",
    "Node",
    "ReLU",
    "Shape",
]
