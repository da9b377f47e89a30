from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from workloads.image_classification import ImageClassificationOptions
from workloads.image_classification.data import Batch, ImageSource, open_source
from workloads.image_classification.data.preprocessing import DevicePreprocessing
from workloads.image_classification.features import data_features

SIZES: dict[str, Any] = {
    "image_size": 12,
    "generated_train_images": 400,
    "generated_validation_images": 30,
    "generated_classes": 5,
}


def open_generated(**options: Any) -> ImageSource:
    return open_source(
        ImageClassificationOptions(data="generated", initial="resnet18", **{**SIZES, **options})
    )


def train_images(source: ImageSource) -> Batch:
    (batch,) = source.train_batches([np.arange(source.facts.train_images)], seed=0)
    return batch


def test_sizes_are_those_asked_for() -> None:
    description = open_generated().describe()
    assert (description.train_images, description.validation_images) == (400, 30)
    assert (description.input_shape, description.num_classes) == ((3, 12, 12), 5)
    assert description.name == "generated"
    assert description.is_synthetic


def test_the_images_are_the_same_on_every_machine() -> None:
    fingerprint = open_generated(generated_hardness=0.4).describe().fingerprint
    assert fingerprint == "e737b1e8eb593155764c9ee219addcbcf13e6f2ab24fe08e893c12f90e5e74aa"


@pytest.mark.parametrize(
    "change",
    [
        {"image_size": 13},
        {"generated_train_images": 401},
        {"generated_validation_images": 31},
        {"generated_classes": 6},
        {"generated_hardness": 0.3},
        {"generated_seed": 1},
    ],
)
def test_every_option_changes_the_fingerprint(change: dict[str, Any]) -> None:
    assert open_generated(**change).fingerprint() != open_generated().fingerprint()


def test_more_validation_images_leave_the_training_images_alone() -> None:
    first, second = (train_images(open_generated(generated_validation_images=count)) for count in (30, 60))
    assert np.array_equal(first.images, second.images)


def test_classes_are_equally_frequent_and_in_no_order() -> None:
    labels = train_images(open_generated()).labels
    assert np.bincount(labels).tolist() == [80, 80, 80, 80, 80]
    assert len(set(labels[:20].tolist())) == 5
    assert labels[:10].tolist() != [0, 1, 2, 3, 4] * 2


def test_no_two_images_are_equal_and_training_images_are_not_validated() -> None:
    source = open_generated(generated_hardness=0.0)
    (validation,) = source.validation_batches([np.arange(30)])
    images = np.concatenate([train_images(source).images, validation.images]).reshape(430, -1)
    assert len(np.unique(images, axis=0)) == 430


def test_normalised_training_images_have_mean_zero_and_deviation_one_in_each_channel() -> None:
    source = open_generated()
    preprocessing = DevicePreprocessing(source.facts.preprocessing, torch.device("cpu"))
    images = preprocessing.normalise(torch.from_numpy(train_images(source).images))
    assert images.mean(dim=(0, 2, 3)).tolist() == pytest.approx([0.0] * 3, abs=1e-5)
    assert images.std(dim=(0, 2, 3), correction=0).tolist() == pytest.approx([1.0] * 3, abs=1e-5)


def test_hardness_runs_from_plain_to_see_to_nothing_to_see() -> None:
    easy, middle, hard = (
        data_features(open_generated(generated_hardness=hardness))["linear_probe_accuracy"]
        for hardness in (0.0, 0.6, 1.0)
    )
    assert easy > 0.98
    assert 0.4 < middle < 0.95
    assert hard < 0.3
