"""From options to an open data set."""

from __future__ import annotations

from pathlib import Path

from workloads.image_classification.data.base import ImageSource
from workloads.image_classification.data.cifar10 import cifar10
from workloads.image_classification.data.digits import digits
from workloads.image_classification.data.generated import generated
from workloads.image_classification.data.image_folder import ImageFolder
from workloads.image_classification.data.synthetic import synthetic
from workloads.image_classification.options import ImageClassificationOptions


def open_source(options: ImageClassificationOptions) -> ImageSource:
    """Open the data set that the options name.

    Raises:
        DataError: It is missing or malformed.
    """
    match options.data:
        case "digits":
            return digits()
        case "cifar10":
            assert options.data_dir is not None
            return cifar10(Path(options.data_dir))
        case "image_folder":
            assert options.data_dir is not None
            assert options.image_size is not None
            return ImageFolder(
                Path(options.data_dir),
                image_size=options.image_size,
                loader_processes=options.loader_processes,
            )
        case "synthetic":
            return _synthetic(options)
        case "generated":
            return _generated(options)


def _synthetic(options: ImageClassificationOptions) -> ImageSource:
    assert options.image_size is not None
    assert options.synthetic_train_images is not None
    assert options.synthetic_validation_images is not None
    assert options.synthetic_classes is not None
    return synthetic(
        image_size=options.image_size,
        train_images=options.synthetic_train_images,
        validation_images=options.synthetic_validation_images,
        num_classes=options.synthetic_classes,
    )


def _generated(options: ImageClassificationOptions) -> ImageSource:
    assert options.image_size is not None
    assert options.generated_train_images is not None
    assert options.generated_validation_images is not None
    assert options.generated_classes is not None
    assert options.generated_hardness is not None
    assert options.generated_seed is not None
    return generated(
        image_size=options.image_size,
        train_images=options.generated_train_images,
        validation_images=options.generated_validation_images,
        num_classes=options.generated_classes,
        hardness=options.generated_hardness,
        seed=options.generated_seed,
    )
