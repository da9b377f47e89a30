from __future__ import annotations

from typing import Any

import msgspec
import pytest

from workloads.image_classification import ImageClassificationOptions


def options(**values: Any) -> ImageClassificationOptions:
    return msgspec.convert({"data": "digits", "initial": "resnet18", **values}, ImageClassificationOptions)


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"initial": "resnet19"}, "initial is 'resnet19', expected one of resnet18, resnet18-v1, resnet34,"),
        ({"data": "mnist"}, r"Invalid enum value 'mnist' - at `\$\.data`"),
        ({"data": "cifar10"}, "data_dir is missing, data 'cifar10' needs the folder it lies in"),
        ({"data": "image_folder"}, "data_dir is missing, data 'image_folder' needs"),
        ({"data_dir": "/d"}, "data_dir does not apply to data 'digits', only to cifar10 and image_folder"),
        ({"data": "synthetic", "data_dir": "/d"}, "data_dir does not apply to data 'synthetic'"),
        (
            {"image_size": 8},
            "image_size does not apply to data 'digits', only to image_folder, synthetic and generated",
        ),
        ({"data": "cifar10", "data_dir": "/d", "image_size": 32}, "image_size does not apply"),
        ({"synthetic_train_images": 4}, "synthetic_train_images does not apply to data 'digits'"),
        ({"synthetic_validation_images": 4}, "synthetic_validation_images does not apply"),
        ({"synthetic_classes": 4}, "synthetic_classes does not apply to data 'digits', only to synthetic"),
        ({"generated_train_images": 4}, "generated_train_images does not apply to data 'digits'"),
        ({"data": "synthetic", "generated_seed": 1}, "generated_seed does not apply to data 'synthetic'"),
        (
            {"data": "generated", "synthetic_classes": 4},
            "synthetic_classes does not apply to data 'generated'",
        ),
        ({"data": "generated", "generated_hardness": 1.5}, r"`float` <= 1.0 - at `\$\.generated_hardness`"),
        ({"data": "generated", "generated_hardness": -0.1}, r"`float` >= 0.0 - at `\$\.generated_hardness`"),
        ({"data": "generated", "generated_seed": -1}, r"`int` >= 0 - at `\$\.generated_seed`"),
        ({"data": "generated", "generated_classes": 0}, r"`int` >= 1 - at `\$\.generated_classes`"),
        ({"loader_processes": 2}, "loader_processes does not apply to data 'digits', only to image_folder"),
        ({"width": 0}, r"`int` >= 1 - at `\$\.width`"),
        ({"momentum": 1.0}, r"`float` < 1.0 - at `\$\.momentum`"),
        ({"label_smoothing": -0.1}, r"`float` >= 0.0 - at `\$\.label_smoothing`"),
        ({"weight_decay": -1.0}, r"`float` >= 0.0 - at `\$\.weight_decay`"),
        ({"precision": "tf32"}, "Invalid enum value 'tf32'"),
        ({"batch_size": 4}, "unknown field `batch_size`"),
    ],
)
def test_a_bad_option_is_refused_with_its_name(values: dict[str, Any], problem: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=problem):
        options(**values)


@pytest.mark.parametrize("name", ["data", "initial"])
def test_data_and_initial_network_have_no_default(name: str) -> None:
    values = {"data": "digits", "initial": "resnet18"}
    del values[name]
    with pytest.raises(msgspec.ValidationError, match=f"missing required field `{name}`"):
        msgspec.convert(values, ImageClassificationOptions)


def test_what_applies_gets_its_default_and_the_rest_stays_absent() -> None:
    synthetic = options(data="synthetic")
    assert synthetic.image_size == 224
    assert synthetic.synthetic_train_images == 1024
    assert synthetic.synthetic_validation_images == 256
    assert synthetic.synthetic_classes == 10
    generated = options(data="generated")
    assert generated.image_size == 32
    assert generated.generated_train_images == 1024
    assert generated.generated_validation_images == 256
    assert generated.generated_classes == 10
    assert generated.generated_hardness == 0.25
    assert generated.generated_seed == 0
    folder = options(data="image_folder", data_dir="/d")
    assert folder.image_size == 224
    assert folder.synthetic_classes is None
    assert options().image_size is None


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"data": "synthetic", "image_size": 8},
        {"data": "generated", "generated_hardness": 1.0},
        {"data": "image_folder", "data_dir": "/d"},
    ],
)
def test_resolved_options_read_back_as_they_were(values: dict[str, Any]) -> None:
    resolved = options(**values)
    assert options(**msgspec.to_builtins(resolved)) == resolved
