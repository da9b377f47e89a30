"""The master's side of image classification: describes, proposes and counts, without torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import msgspec

from aibench.api.features import ExperienceTable
from aibench.api.space import Domain
from aibench.api.workload import DatasetDescription, Gang, HyperParameters, Trainer, WorkloadDescription
from aibench.architecture import Architecture, Shape
from aibench.architecture.resnet import resnet
from aibench.counting import count
from aibench.counting.network import BYTES_PER_FP32
from aibench.errors import ArchitectureError, ConfigError, DataError
from workloads.image_classification import hyperparameters
from workloads.image_classification.data import ImageSource, open_source
from workloads.image_classification.options import ImageClassificationOptions
from workloads.image_classification.specialise import specialise

# The reference setting, that of the benchmark's rules: ResNet-50 version 1 on ImageNet-1k.
_REFERENCE_SIZES = (1_281_167, 50_000, 1000)  # training images, validation images, classes
_REFERENCE_INPUT = (3, 224, 224)
_REFERENCE = ImageClassificationOptions(data="image_folder", data_dir="imagenet", initial="resnet50-v1")
_REFERENCE_OPTIONS = ("initial", "width", "label_smoothing", "momentum", "weight_decay")

_COPIES_OF_PARAMETERS = 3  # weights, gradients, momentum
_BYTES_PER_LOW_PRECISION = 2


class ImageClassification:
    """Image classification.

    Args:
        options: An `ImageClassificationOptions`.
    """

    name: ClassVar[str] = "image_classification"
    options_type: ClassVar[type[msgspec.Struct]] = ImageClassificationOptions
    needs_devices: ClassVar[bool] = True

    def __init__(self, options: msgspec.Struct) -> None:
        assert isinstance(options, ImageClassificationOptions)
        self._options = options

    def describe(self) -> WorkloadDescription:
        """Look at the data, the first time only.

        Raises:
            ConfigError: ``data_dir`` does not hold the data.
            DataError: The data that comes with a package is missing or malformed.
        """
        return self._description

    def initial_architecture(self) -> Architecture:
        """The residual network of the options for the data's images and classes.

        Raises:
            DataError: The data is missing or malformed.
        """
        dataset = self._description.dataset
        shape = Shape(*dataset.input_shape)
        return resnet(self._options.initial, shape, dataset.num_classes, width=self._options.width)

    def search_space(self) -> Mapping[str, Domain]:
        """Default domains of learning rate, batch size of the worker, kernel size and dropout."""
        return hyperparameters.search_space(is_large=self._is_large)

    def specialise(self, architecture: Architecture, hyper_parameters: HyperParameters) -> Architecture:
        """Apply kernel size and dropout; see `workloads.image_classification.specialise`.

        Raises:
            ArchitectureError: A value fits no network or cannot be trained with, or the network has no dense
                layer at its end.
        """
        if problem := hyperparameters.objection(hyper_parameters):
            raise ArchitectureError(problem)
        return specialise(architecture, hyper_parameters)

    def training_memory_bytes(
        self, architecture: Architecture, hyper_parameters: HyperParameters, num_ranks: int
    ) -> int:
        """Estimated device memory of one rank to train its share of ``batch_size`` images, rounded up.

        12 bytes per parameter (weight, gradient and momentum in FP32), 2 more for the copy that lower
        precision computes with, and for each image the output of every layer once, in the trial's precision.

        The backward pass of a residual network needs 55 to 58 % of these outputs (measured with torch's hooks
        for saved tensors). The rest stands for what is not counted: the gradients of the few layers in
        progress and scratch space of convolutions. Fragmentation and what the framework itself occupies on
        the device come on top.
        """
        counted = count(architecture)
        elements = counted.activation_bytes // BYTES_PER_FP32
        if self._options.precision == "fp32":
            bytes_per_parameter = _COPIES_OF_PARAMETERS * BYTES_PER_FP32
            bytes_per_element = BYTES_PER_FP32
        else:
            bytes_per_parameter = _COPIES_OF_PARAMETERS * BYTES_PER_FP32 + _BYTES_PER_LOW_PRECISION
            bytes_per_element = _BYTES_PER_LOW_PRECISION
        batch_size = hyper_parameters[hyperparameters.BATCH_SIZE]
        assert isinstance(batch_size, int)
        images = -(-batch_size // num_ranks)
        return bytes_per_parameter * counted.parameters + bytes_per_element * elements * images

    def features(self) -> Mapping[str, float]:
        """Features of the data and sizes of the initial network.

        Raises:
            DataError: The data cannot be read.
        """
        from workloads.image_classification.features import data_features, size_features

        return {**data_features(self._open_source()), **size_features(self.initial_architecture())}

    def network_features(self) -> Mapping[str, float]:
        """Gradients and zero-cost proxies of the initial network; imports torch.

        Raises:
            DataError: The data cannot be read.
            ModuleNotFoundError: torch is not installed.
        """
        from workloads.image_classification.network_features import network_features

        return network_features(self._open_source(), self.initial_architecture())

    def experience(self) -> ExperienceTable | None:
        """Trainings on small data sets; None for image folders, whose batches are others."""
        if self._is_large:
            return None
        from workloads.image_classification.experience import load_experience

        return load_experience()

    def open(self, gang: Gang, weights_dir: Path | None = None) -> Trainer:
        """Open the data on one rank; with ``weights_dir``, trials inherit and leave weights there.

        Raises:
            DataError: The data is missing or malformed.
        """
        from workloads.image_classification.training import ImageTrainer

        return ImageTrainer(self._options, gang, weights_dir)

    @property
    def _is_large(self) -> bool:
        return self._options.data == "image_folder"

    def _open_source(self) -> ImageSource:
        try:
            return open_source(self._options)
        except DataError as error:
            if self._options.data_dir is None:
                raise
            raise ConfigError("data_dir", f"got {self._options.data_dir!r}; {error}") from error

    @cached_property
    def _description(self) -> WorkloadDescription:
        dataset = self._open_source().describe()
        return WorkloadDescription(
            name=self.name,
            dataset=dataset,
            initial_architecture=self._options.initial,
            precision=self._options.precision,
            departures=tuple(_departures(self._options, dataset)),
        )


def _departures(options: ImageClassificationOptions, dataset: DatasetDescription) -> Iterator[str]:
    sizes = (dataset.train_images, dataset.validation_images, dataset.num_classes)
    if options.data != _REFERENCE.data or sizes != _REFERENCE_SIZES:
        yield f"data set {_sizes(dataset.name, sizes)}; reference {_sizes('ImageNet-1k', _REFERENCE_SIZES)}"
    if dataset.input_shape != _REFERENCE_INPUT:
        yield f"images of {_sides(dataset.input_shape)}; reference {_sides(_REFERENCE_INPUT)}"
    for name in _REFERENCE_OPTIONS:
        value, reference = getattr(options, name), getattr(_REFERENCE, name)
        if value != reference:
            yield f"{name} {value}; reference {reference}"


def _sizes(name: str, sizes: tuple[int, int, int]) -> str:
    train, validation, classes = sizes
    return f"{name} ({train:,} training and {validation:,} validation images, {classes:,} classes)"


def _sides(shape: tuple[int, int, int]) -> str:
    return "×".join(map(str, shape))
