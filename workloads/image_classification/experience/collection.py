"""The data sets whose trainings are recorded: variants of the handwritten digits, and generated ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from aibench.architecture import Architecture
from aibench.architecture.resnet import resnet
from workloads.image_classification.data import Batch, ImageSource, IndexArray
from workloads.image_classification.data.base import ArraySource
from workloads.image_classification.data.digits import digits
from workloads.image_classification.data.generated import generated

INITIAL = "resnet18"
_VALIDATION_IMAGES = 400
_UNBALANCED_SHARE = 0.7  # of the images of the class before it that a class of the unbalanced digits keeps

_Choice = Callable[[Batch], IndexArray]


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordedData:
    """One data set and the width of the network that is trained on it."""

    name: str
    width: int
    open: Callable[[], ImageSource]

    def initial_architecture(self, source: ImageSource) -> Architecture:
        """The network that is trained on the data."""
        return resnet(INITIAL, source.facts.input_shape, source.facts.num_classes, width=self.width)


def recorded_data() -> tuple[RecordedData, ...]:
    """All data sets, in the order in which they are recorded."""
    return (
        RecordedData(name="digits", width=4, open=digits),
        RecordedData(name="digits-few", width=4, open=lambda: _digits(_first(400))),
        RecordedData(name="digits-0-to-4", width=4, open=lambda: _digits(_low_classes, num_classes=5)),
        RecordedData(name="digits-enlarged", width=8, open=lambda: _digits(_first(400), scale=2)),
        RecordedData(name="digits-unbalanced", width=4, open=lambda: _digits(_unbalanced)),
        _generated(side=12, images=400, classes=4, hardness=0.2),
        _generated(side=12, images=400, classes=10, hardness=0.0),
        _generated(side=16, images=500, classes=10, hardness=0.3),
        _generated(side=16, images=400, classes=10, hardness=0.4),
        _generated(side=12, images=400, classes=4, hardness=0.5),
        _generated(side=12, images=500, classes=4, hardness=0.6),
        _generated(side=8, images=700, classes=10, hardness=0.3),
        _generated(side=8, images=400, classes=2, hardness=0.6),
        _generated(side=20, images=300, classes=4, hardness=0.3),
        _generated(side=12, images=500, classes=20, hardness=0.2),
        _generated(side=8, images=400, classes=4, hardness=0.5, width=8),
    )


def _generated(*, side: int, images: int, classes: int, hardness: float, width: int = 4) -> RecordedData:
    def source() -> ImageSource:
        return generated(
            image_size=side,
            train_images=images,
            validation_images=_VALIDATION_IMAGES,
            num_classes=classes,
            hardness=hardness,
            seed=side + images + classes,
        )

    name = f"generated-{side}px-{images}-images-{classes}-classes-hardness-{hardness}"
    return RecordedData(name=name, width=width, open=source)


def _digits(choose: _Choice, *, num_classes: int = 10, scale: int = 1) -> ImageSource:
    """Those training images that are chosen, and those validation images whose class is below the number."""
    source = digits()
    (train,) = source.train_batches([np.arange(source.facts.train_images)], seed=0)
    (validation,) = source.validation_batches([np.arange(source.facts.validation_images)])
    return ArraySource(
        _part(train, choose(train), scale),
        _part(validation, np.flatnonzero(validation.labels < num_classes), scale),
        name="digits",
        num_classes=num_classes,
        preprocessing=source.facts.preprocessing,
    )


def _part(images: Batch, indices: IndexArray, scale: int) -> Batch:
    enlarged = images.images[indices].repeat(scale, axis=2).repeat(scale, axis=3)
    return Batch(images=enlarged, labels=images.labels[indices])


def _first(count: int) -> _Choice:
    return lambda images: np.arange(count)


def _low_classes(images: Batch) -> IndexArray:
    return np.flatnonzero(images.labels < 5)[:500]


def _unbalanced(images: Batch) -> IndexArray:
    """Ever fewer images of the later classes."""
    members = [np.flatnonzero(images.labels == label) for label in range(10)]
    kept = [part[: round(len(part) * _UNBALANCED_SHARE**label)] for label, part in enumerate(members)]
    return np.sort(np.concatenate(kept))
