from __future__ import annotations

import random
from typing import Any

import pytest

from aibench.architecture import (
    Add,
    Architecture,
    BatchNorm,
    Conv,
    Dense,
    Dropout,
    GlobalAvgPool,
    Input,
    Shape,
)
from aibench.architecture.morphs import random_morph
from aibench.architecture.resnet import resnet
from aibench.counting import count
from aibench.errors import ArchitectureError
from workloads.image_classification.specialise import specialise

SMALL = resnet("resnet18", Shape(1, 8, 8), 10, width=4)
IMAGENET = resnet("resnet18", Shape(3, 224, 224), 10, width=4)


def kernels(architecture: Architecture) -> list[int]:
    return [node.kernel for node in architecture.nodes if type(node) is Conv]


def dropouts(architecture: Architecture) -> list[float]:
    return [node.rate for node in architecture.nodes if type(node) is Dropout]


def test_kernel_size_replaces_every_window_but_not_the_projections() -> None:
    # 17 convolutions of 3×3 and 3 projections of 1×1, in the order of a ResNet-18.
    expected = [5] * 5 + [5, 5, 1, 5, 5] * 3
    assert kernels(SMALL) == [3 if kernel == 5 else 1 for kernel in expected]
    assert kernels(specialise(SMALL, {"kernel_size": 5})) == expected


def test_kernel_size_leaves_the_strided_stem_of_imagenet_networks_alone() -> None:
    assert kernels(specialise(IMAGENET, {"kernel_size": 5}))[:3] == [7, 5, 5]
    assert kernels(specialise(IMAGENET, {"kernel_size": 9}))[:3] == [7, 9, 9]


def test_kernel_size_keeps_all_shapes_and_changes_the_count() -> None:
    wide = specialise(SMALL, {"kernel_size": 5})
    assert wide.shapes == SMALL.shapes
    # The windows join 4,772 pairs of channels; projections 672, batch norms 600 and the last layer 330 stay.
    assert count(SMALL).parameters == 4_772 * 9 + 1_602
    assert count(wide).parameters == 4_772 * 25 + 1_602


def test_kernel_size_leaves_even_and_unpadded_windows_alone() -> None:
    architecture = Architecture(
        (
            Input(channels=3, height=9, width=9),
            Conv(inputs=(0,), channels=4, kernel=3),
            Conv(inputs=(1,), channels=4, kernel=2),
            GlobalAvgPool(inputs=(2,)),
            Dense(inputs=(3,), features=2),
        )
    )
    assert specialise(architecture, {"kernel_size": 5}) == architecture


def test_dropout_comes_right_before_the_last_layer() -> None:
    specialised = specialise(SMALL, {"dropout": 0.25})
    assert [type(node) for node in specialised.nodes[-3:]] == [GlobalAvgPool, Dropout, Dense]
    assert dropouts(specialised) == [0.25]
    assert specialised.nodes[: len(SMALL.nodes) - 1] == SMALL.nodes[:-1]


def test_a_new_dropout_replaces_the_old_one_and_rate_zero_removes_it() -> None:
    first = specialise(SMALL, {"dropout": 0.25})
    assert dropouts(specialise(first, {"dropout": 0.5})) == [0.5]
    assert len(specialise(first, {"dropout": 0.5}).nodes) == len(SMALL.nodes) + 1
    assert specialise(first, {"dropout": 0.0}) == SMALL
    assert specialise(first, {"dropout": 0}) == SMALL


def test_dropouts_elsewhere_stay() -> None:
    architecture = Architecture(
        (
            Input(channels=3, height=4, width=4),
            Dropout(inputs=(0,), rate=0.1),
            Conv(inputs=(1,), channels=4, kernel=3, padding=1),
            GlobalAvgPool(inputs=(2,)),
            Dropout(inputs=(3,), rate=0.2),
            BatchNorm(inputs=(4,)),
            Add(inputs=(4, 5)),
            Dropout(inputs=(6,), rate=0.3),
            Dropout(inputs=(7,), rate=0.4),
            Dense(inputs=(8,), features=2),
        )
    )
    assert dropouts(specialise(architecture, {"dropout": 0.5})) == [0.1, 0.2, 0.5]
    assert specialise(architecture, {"dropout": 0.0}).nodes[-1] == Dense(inputs=(6,), features=2)


@pytest.mark.parametrize("hyper_parameters", [{}, {"learning_rate": 0.1, "batch_size": 32, "colour": "red"}])
def test_absent_and_foreign_hyper_parameters_change_nothing(hyper_parameters: dict[str, Any]) -> None:
    assert specialise(SMALL, hyper_parameters) is SMALL


@pytest.mark.parametrize("seed", range(10))
def test_specialising_a_morph_of_a_specialised_network_overrides_and_repeats(seed: int) -> None:
    rng = random.Random(seed)
    child = specialise(SMALL, {"kernel_size": 5, "dropout": 0.4})
    for _ in range(3):
        child, _ = random_morph(child, rng)
    once = specialise(child, {"kernel_size": 3, "dropout": 0.1})
    assert set(kernels(once)) == {1, 3}
    assert dropouts(once) == [0.1]
    assert specialise(once, {"kernel_size": 3, "dropout": 0.1}) == once


@pytest.mark.parametrize(
    ("hyper_parameters", "problem"),
    [
        ({"kernel_size": 4}, "kernel_size 4: expected an odd whole number from 3 on"),
        ({"kernel_size": 1}, "kernel_size 1: expected"),
        ({"kernel_size": 3.0}, "kernel_size 3.0: expected"),
        ({"dropout": 1.0}, "dropout 1.0: expected a number from 0 to below 1"),
        ({"dropout": -0.1}, "dropout -0.1: expected"),
        ({"dropout": float("nan")}, "dropout nan: expected"),
        ({"dropout": "high"}, "dropout 'high': expected"),
    ],
)
def test_a_value_that_fits_no_network_is_refused(hyper_parameters: dict[str, Any], problem: str) -> None:
    with pytest.raises(ArchitectureError, match=problem):
        specialise(SMALL, hyper_parameters)


def test_dropout_needs_a_dense_layer_at_the_end() -> None:
    architecture = Architecture((Input(channels=2, height=4, width=4), GlobalAvgPool(inputs=(0,))))
    with pytest.raises(ArchitectureError, match="the last layer is GlobalAvgPool: dropout expects Dense"):
        specialise(architecture, {"dropout": 0.5})
