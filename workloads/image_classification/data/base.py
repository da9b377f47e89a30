"""The seam between data and training: batches of integers come out, by index, in the order asked for."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from aibench.api.workload import DatasetDescription
from aibench.architecture import Shape

IndexArray = npt.NDArray[np.int64]


class Batch(NamedTuple):
    """Images as uint8 of shape B×C×H×W and their classes as int64 of shape B."""

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Preprocessing:
    """What a device does to a batch before the network sees it.

    Attributes:
        mean: Per channel, in units of the stored values; subtracted.
        std: Per channel, in the same units; divided by.
        crop_padding: While training, cut the image at random out of itself with this many zeros around it
            and flip it half of the time; None leaves images as they are.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop_padding: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """What is known of a data set once it is open."""

    name: str
    train_images: int
    validation_images: int
    input_shape: Shape
    num_classes: int
    preprocessing: Preprocessing
    is_synthetic: bool = False


class ImageSource(ABC):
    """An open data set.

    Attributes:
        facts: Its sizes and what its images need.
    """

    facts: Facts

    @abstractmethod
    def fingerprint(self) -> str:
        """SHA-256 in hex that changes when the data does; may read every file's size."""

    @abstractmethod
    def train_batches(self, plan: Iterable[IndexArray], *, seed: int) -> Iterator[Batch]:
        """One batch of training images per index array; ``seed`` draws what is random about reading them.

        Raises:
            DataError: An image cannot be read.
        """

    @abstractmethod
    def validation_batches(self, plan: Iterable[IndexArray]) -> Iterator[Batch]:
        """One batch of validation images per index array.

        Raises:
            DataError: An image cannot be read.
        """

    def describe(self) -> DatasetDescription:
        """The data set as the journal shows it."""
        channels, height, width = self.facts.input_shape
        return DatasetDescription(
            name=self.facts.name,
            train_images=self.facts.train_images,
            validation_images=self.facts.validation_images,
            input_shape=(channels, height, width),
            num_classes=self.facts.num_classes,
            is_synthetic=self.facts.is_synthetic,
            fingerprint=self.fingerprint(),
        )


class ArraySource(ImageSource):
    """A data set that lies in memory as arrays.

    Args:
        train: All training images.
        validation: All validation images.
        name: Name of the data set.
        num_classes: Labels are below it.
        preprocessing: What the images need.
        is_synthetic: Whether they are made up.
    """

    def __init__(
        self,
        train: Batch,
        validation: Batch,
        *,
        name: str,
        num_classes: int,
        preprocessing: Preprocessing,
        is_synthetic: bool = False,
    ) -> None:
        self._train = train
        self._validation = validation
        self.facts = Facts(
            name=name,
            train_images=len(train.labels),
            validation_images=len(validation.labels),
            input_shape=Shape(*train.images.shape[1:]),
            num_classes=num_classes,
            preprocessing=preprocessing,
            is_synthetic=is_synthetic,
        )

    def fingerprint(self) -> str:
        """SHA-256 of all images and labels."""
        digest = hashlib.sha256()
        for array in (*self._train, *self._validation):
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()

    def train_batches(self, plan: Iterable[IndexArray], *, seed: int) -> Iterator[Batch]:
        """Batches in memory; nothing about them is random."""
        return self._batches(self._train, plan)

    def validation_batches(self, plan: Iterable[IndexArray]) -> Iterator[Batch]:
        """Batches in memory."""
        return self._batches(self._validation, plan)

    def _batches(self, images: Batch, plan: Iterable[IndexArray]) -> Iterator[Batch]:
        for indices in plan:
            yield Batch(images=images.images[indices], labels=images.labels[indices])
