from __future__ import annotations

import random

import numpy as np
import pytest

from aibench.architecture import (
    Add,
    Architecture,
    Concat,
    Conv,
    Dense,
    GlobalAvgPool,
    Input,
    Node,
    ReLU,
    Shape,
)
from aibench.architecture.morphs import Deepen, apply, random_morph
from aibench.architecture.resnet import resnet
from aibench.search.embedding import GROUPS, NUM_FEATURES, NUM_STAGES, embed

INITIAL = resnet("resnet18", Shape(3, 16, 16), 10, width=8)
BRANCHED = Architecture(
    (
        Input(channels=3, height=8, width=8),
        Conv(inputs=(0,), channels=4, kernel=3, padding=1),
        ReLU(inputs=(1,)),
        Conv(inputs=(2,), channels=16, kernel=1),
        Conv(inputs=(2,), channels=16, kernel=1),
        Conv(inputs=(3,), channels=16, kernel=1),
        Add(inputs=(5, 4)),
        Conv(inputs=(6,), channels=32, kernel=4, stride=4),
        GlobalAvgPool(inputs=(7,)),
        Dense(inputs=(8,), features=8),
    )
)


def test_the_profile_of_a_small_network_as_computed_by_hand() -> None:
    profile = embed(BRANCHED)
    depth, width, kernel, joins = profile[: 4 * NUM_STAGES].reshape(4, NUM_STAGES)
    # Four convolutions at full size, one at a quarter of the side.
    assert depth == pytest.approx([2.321928, 0, 1, 0, 0, 0, 0], abs=1e-6)  # log2(1 + 4), log2(1 + 1)
    assert width == pytest.approx([3.5, 0, 5, 0, 0, 0, 0])  # mean of 2, 4, 4, 4 octaves
    assert kernel == pytest.approx([0.396241, 0, 2, 0, 0, 0, 0], abs=1e-6)  # log2(3) / 4
    assert joins == pytest.approx([1, 0, 0, 0, 0, 0, 0])
    # Four convolutions on the longest path, 8 classes, three on the shortest path, 8940 weights, 64512
    # multiply-adds.
    assert profile[4 * NUM_STAGES :] == pytest.approx([2.321928, 3, 2, 13.126220, 15.977302], abs=1e-6)


def test_every_feature_has_a_group() -> None:
    assert embed(INITIAL).shape == GROUPS.shape == (NUM_FEATURES,)
    assert sorted(set(GROUPS.tolist())) == [0, 1, 2, 3, 4]


def test_a_concatenation_of_three_joins_twice() -> None:
    nodes = (
        Input(channels=2, height=4, width=4),
        ReLU(inputs=(0,)),
        Concat(inputs=(0, 1, 1)),
        GlobalAvgPool(inputs=(2,)),
    )
    assert embed(Architecture(nodes))[3 * NUM_STAGES] == pytest.approx(1.584963, abs=1e-6)  # log2(1 + 2)


def test_tiny_maps_and_wide_images_have_a_stage() -> None:
    convs: list[Node] = [Conv(inputs=(place,), channels=4, kernel=2, stride=2) for place in range(8)]
    network = Architecture((Input(channels=3, height=256, width=1024), *convs))
    assert embed(network)[:NUM_STAGES] == pytest.approx([0, 1, 1, 1, 1, 1, 2])


def test_every_morph_moves_a_network() -> None:
    rng = random.Random(2)
    for _ in range(60):
        child, _ = random_morph(INITIAL, rng)
        assert np.linalg.norm(embed(child) - embed(INITIAL)) > 0.01


def test_where_in_its_stage_a_layer_was_put_makes_no_difference() -> None:
    first, second = (apply(INITIAL, Deepen(place, "conv")) for place in (3, 10))
    assert first != second
    assert embed(first).tolist() == embed(second).tolist()
