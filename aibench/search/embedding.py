"""Networks as points: a profile of depth, width, windows, joins and cost, in octaves.

The distance between such points stands in for the layer-by-layer edit distance of Jin et al., "Auto-Keras",
arXiv:1806.10282: it costs microseconds instead of milliseconds, and any kernel that is positive definite on
points is so on networks. Counts of this kind predict accuracy well: Kadlecová et al., "Surprisingly Strong
Performance Prediction with Neural Graph Features", arXiv:2404.16551.

Sizes enter as base-2 logarithms, so doubling a size moves the network by about one. A stage is all maps that
are halved equally often from the image; the last stage also holds all smaller maps.
"""

from __future__ import annotations

from math import log2
from typing import Final

import numpy as np
import numpy.typing as npt

from aibench.architecture import Add, Architecture, Concat, Conv, Dense, Shape
from aibench.architecture.paths import path_lengths

NUM_STAGES = 7

# The group of each feature; features of a group are compared on one scale. First the profiles over the stages
# (depth, width, kernel, joins), then longest path, head width, shortest path, parameters and operations.
GROUPS: Final = np.array([*np.repeat(range(4), NUM_STAGES), 0, 1, 3, 4, 4])
NUM_FEATURES = len(GROUPS)


def embed(architecture: Architecture) -> npt.NDArray[np.float64]:
    """The point of a network, of shape (NUM_FEATURES,).

    Where in its stage a layer stands makes no difference, nor do layers without weights that join nothing.
    """
    shapes = architecture.shapes
    image = shapes[0]
    stages = {shape: _stage(image, shape) for shape in set(shapes)}
    depth, width, kernel, joins = ([0.0] * NUM_STAGES for _ in range(4))
    head = weights = multiply_adds = 0.0
    for node, shape in zip(architecture.nodes, shapes, strict=True):
        if type(node) is Conv:
            stage = stages[shape]
            depth[stage] += 1
            width[stage] += log2(node.channels)
            kernel[stage] += log2(node.kernel)
            own = node.kernel**2 * (shapes[node.inputs[0]].channels // node.groups) * node.channels
            weights += own
            multiply_adds += own * shape.height * shape.width
        elif type(node) is Add or type(node) is Concat:
            joins[stages[shape]] += len(node.inputs) - 1
        elif type(node) is Dense:
            head += log2(node.features)
            own = shapes[node.inputs[0]].channels * node.features
            weights += own
            multiply_adds += own
    profiles = [
        *(log2(1.0 + num_convs) for num_convs in depth),
        *_means(width, depth),
        *_means(kernel, depth),
        *(log2(1.0 + num_joins) for num_joins in joins),
    ]
    shortest, longest = path_lengths(architecture, (Conv,))
    figures = [
        log2(1.0 + longest),
        head,
        log2(1.0 + shortest),
        log2(1.0 + weights),
        log2(1.0 + multiply_adds),
    ]
    return np.array(profiles + figures)


def _stage(image: Shape, shape: Shape) -> int:
    """How often the image's side was halved, by areas, so that other shapes than squares have a stage too."""
    halvings = log2(image.height * image.width / (shape.height * shape.width)) / 2.0
    return min(max(round(halvings), 0), NUM_STAGES - 1)


def _means(totals: list[float], counts: list[float]) -> list[float]:
    return [total / max(1.0, count) for total, count in zip(totals, counts, strict=True)]
