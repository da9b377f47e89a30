from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from aibench.architecture import Shape
from aibench.architecture.resnet import resnet
from workloads.image_classification import features
from workloads.image_classification.data import Batch, ImageSource, Preprocessing
from workloads.image_classification.data.base import ArraySource
from workloads.image_classification.features import (
    class_balance,
    data_features,
    intrinsic_dimension,
    linear_probe_accuracy,
    neighbour_accuracy,
    sample_plan,
    shrunk,
    size_features,
    take_sample,
)


def source_of(images: Any, labels: Any, num_classes: int = 2) -> ImageSource:
    batch = Batch(images=np.asarray(images, dtype=np.uint8), labels=np.asarray(labels, dtype=np.int64))
    return ArraySource(
        batch,
        batch,
        name="handmade",
        num_classes=num_classes,
        preprocessing=Preprocessing(mean=(0.0,), std=(1.0,)),
    )


def noise(count: int, *, channels: int = 1, side: int = 4) -> NDArray[np.uint8]:
    return np.random.RandomState(0).randint(0, 256, size=(count, channels, side, side), dtype=np.uint8)


@pytest.mark.parametrize(
    ("labels", "num_classes", "balance"),
    [
        ([0, 1, 2, 3], 4, 1.0),
        ([0, 0, 0, 0], 4, 0.0),
        ([0, 1, 0, 1], 4, 0.5),
        ([0, 0, 0, 1], 2, 0.8112781),
        ([0, 0], 1, 1.0),
    ],
)
def test_balance_is_the_entropy_of_the_classes(labels: list[int], num_classes: int, balance: float) -> None:
    assert class_balance(np.array(labels), num_classes) == pytest.approx(balance)


@pytest.mark.parametrize("dimension", [1, 2, 5])
def test_a_flat_manifold_has_its_own_dimension_in_any_space(dimension: int) -> None:
    random = np.random.RandomState(0)
    directions = np.linalg.qr(random.normal(size=(20, dimension)))[0]
    points = random.uniform(size=(2000, dimension)) @ directions.T
    assert intrinsic_dimension(points) == pytest.approx(dimension, rel=0.1)


def test_duplicates_do_not_count_and_too_few_points_have_no_dimension() -> None:
    points = np.random.RandomState(0).uniform(size=(300, 3))
    assert intrinsic_dimension(np.concatenate([points, points])) == intrinsic_dimension(
        np.unique(points, axis=0)
    )
    assert intrinsic_dimension(np.zeros((50, 3))) == 0.0
    assert intrinsic_dimension(np.array([[0.0], [1.0]])) == 0.0
    assert intrinsic_dimension(np.eye(5)) == 0.0


def test_probes_see_what_is_there_and_nothing_else() -> None:
    random = np.random.RandomState(0)
    labels = np.arange(400) % 2
    apart = random.normal(size=(400, 5)) + 20.0 * labels[:, None]
    same = random.normal(size=(400, 5))
    assert linear_probe_accuracy(apart, labels) == 1.0
    assert neighbour_accuracy(apart, labels) == 1.0
    assert 0.4 < linear_probe_accuracy(same, labels) < 0.6
    assert 0.4 < neighbour_accuracy(same, labels) < 0.6


def test_only_neighbours_see_what_no_line_divides() -> None:
    points = np.random.RandomState(0).uniform(-1, 1, size=(1000, 2))
    labels = (points[:, 0] * points[:, 1] > 0).astype(np.int64)
    assert linear_probe_accuracy(points, labels) < 0.65
    assert neighbour_accuracy(points, labels) > 0.9


def test_shrinking_averages_squares_and_leaves_small_images_alone() -> None:
    images = np.array([[[[0, 2, 10, 10], [4, 6, 10, 10], [1, 1, 0, 0], [1, 1, 0, 8]]]], dtype=np.uint8)
    assert shrunk(images, 2).tolist() == [[[[3, 10], [1, 2]]]]
    assert shrunk(images, 4) is images
    assert shrunk(np.zeros((1, 3, 65, 70), dtype=np.uint8), 32).shape == (1, 3, 21, 23)
    assert shrunk(np.zeros((1, 1, 2, 64), dtype=np.uint8), 8).shape == (1, 1, 1, 8)


def test_a_sample_is_bounded_and_repeats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "MAX_IMAGES", 150)
    source = source_of(noise(400, side=40), np.arange(400) % 2)
    sample = take_sample(source)
    assert sample.images.shape == (150, 1, 20, 20)
    assert np.array_equal(sample.images, take_sample(source).images)
    assert len(set(sample_plan(source, 150).tolist())) == 150


def test_sizes_levels_and_edges_of_a_handmade_data_set() -> None:
    stripes = np.zeros((40, 1, 4, 4))
    stripes[:, :, :, ::2] = 200
    stripes[::4] //= 2
    found = data_features(source_of(stripes, np.arange(40) % 2))
    assert found["log_train_images"] == pytest.approx(math.log(40))
    assert found["log_classes"] == pytest.approx(math.log(2))
    assert found["log_images_per_class"] == pytest.approx(math.log(20))
    assert found["log_side"] == pytest.approx(math.log(4))
    assert found["channels"] == 1.0
    assert found["class_balance"] == 1.0
    assert found["mean_level"] == pytest.approx((0.75 * 100 + 0.25 * 50) / 200)
    # Squared steps of neighbours: 200² or 100² across stripes, 0 along them; variance 16,250 - 87.5².
    assert found["edge_energy"] == pytest.approx(32_500 / (16_250 - 87.5**2))
    assert found["contrast_share"] == pytest.approx(8_125 / (16_250 - 87.5**2))
    assert found["channel_difference"] == 0.0


def test_channels_of_different_level_differ() -> None:
    images = np.zeros((20, 2, 4, 4))
    images[:, 1] = 100
    assert data_features(source_of(images, np.arange(20) % 2))["channel_difference"] == pytest.approx(0.5)


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_very_small_or_uniform_data_still_has_features(count: int) -> None:
    found = data_features(source_of(np.zeros((count, 1, 1, 1)), np.arange(count) % 2))
    assert all(math.isfinite(value) for value in found.values())


def test_classes_of_too_few_images_are_not_probed() -> None:
    many, few = (
        data_features(source_of(noise(40), np.arange(40) % count, num_classes=count)) for count in (10, 11)
    )
    probes = {"linear_probe_accuracy", "neighbour_accuracy"}
    assert probes <= set(many)
    assert set(many) - set(few) == probes


def test_sizes_of_the_network_are_those_that_are_counted() -> None:
    found = size_features(resnet("resnet50-v1", Shape(3, 224, 224), 1000))
    assert found == pytest.approx(
        {"log_parameters": math.log(25_557_032), "log_train_ops": math.log(23_053_458_315)}
    )
