"""The master's side of the synthetic workload: real networks, searched and counted, and no data at all."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
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
from workloads.synthetic.hyperparameters import KERNEL_SIZE, SEARCH_SPACE
from workloads.synthetic.options import SyntheticOptions

_CHANNELS = 3
_BATCH_SIZE = 128


class Synthetic:
    """Trials that take a given time and train nothing; runs without torch, also on simulated devices.

    Args:
        options: A `SyntheticOptions`.
    """

    name: ClassVar[str] = "synthetic"
    options_type: ClassVar[type[msgspec.Struct]] = SyntheticOptions
    needs_devices: ClassVar[bool] = False

    def __init__(self, options: msgspec.Struct) -> None:
        assert isinstance(options, SyntheticOptions)
        self._options = options

    def describe(self) -> WorkloadDescription:
        """What the trials claim to train."""
        options = self._options
        dataset = DatasetDescription(
            name="synthetic",
            train_images=options.train_images,
            validation_images=options.validation_images,
            input_shape=(_CHANNELS, options.image_size, options.image_size),
            num_classes=options.classes,
            is_synthetic=True,
            fingerprint=hashlib.sha256(msgspec.json.encode(options, order="sorted")).hexdigest(),
        )
        return WorkloadDescription(
            name=self.name,
            dataset=dataset,
            initial_architecture=options.initial,
            precision="fp32",
            departures=("nothing is trained",),
        )

    def initial_architecture(self) -> Architecture:
        """The residual network of the options."""
        options = self._options
        shape = Shape(_CHANNELS, options.image_size, options.image_size)
        return resnet(options.initial, shape, options.classes, width=options.width)

    def search_space(self) -> Mapping[str, Domain]:
        """Domains of learning rate and kernel size."""
        return SEARCH_SPACE

    def specialise(self, architecture: Architecture, hyper_parameters: HyperParameters) -> Architecture:
        """Apply the kernel size as image classification does.

        Raises:
            ArchitectureError: It fits no network.
        """
        # Here, so that workers need not load what only the master calls.
        from workloads.image_classification.specialise import specialise

        network_part = {name: value for name, value in hyper_parameters.items() if name == KERNEL_SIZE}
        return specialise(architecture, network_part)

    def training_memory_bytes(
        self, architecture: Architecture, hyper_parameters: HyperParameters, num_ranks: int
    ) -> int:
        """What training in FP32 would take: weights, gradients, momentum, and the outputs of all layers."""
        counted = count(architecture)
        images = -(-_BATCH_SIZE // num_ranks)
        return 3 * BYTES_PER_FP32 * counted.parameters + counted.activation_bytes * images

    def features(self) -> Mapping[str, float]:
        """None: there is no data."""
        return {}

    def network_features(self) -> Mapping[str, float]:
        """None: nothing is run."""
        return {}

    def experience(self) -> ExperienceTable | None:
        """None: nothing was ever learned from it."""
        return None

    def open(self, gang: Gang, weights_dir: Path | None = None) -> Trainer:
        """A trainer that sleeps."""
        from workloads.synthetic.trainer import SyntheticTrainer

        return SyntheticTrainer(self._options, gang, weights_dir)
