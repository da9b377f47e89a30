"""What a trial trains: the interface between the suite and a workload.

A workload has two sides. The master's side (`Workload`) describes, proposes and counts; it runs on login
nodes without torch. The worker's side (`Trainer`) is opened once per rank, keeps data and process group, and
trains one trial after another.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Protocol

import msgspec

from aibench.api.clock import RankTimes
from aibench.api.features import ExperienceTable
from aibench.api.space import Domain, Scalar
from aibench.architecture import Architecture
from aibench.architecture.graph import ArchitectureDocument

HyperParameters = dict[str, Scalar]
Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Positive = Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)]


class DatasetDescription(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the data is; ``fingerprint`` changes when the data does."""

    name: str
    train_images: Positive
    validation_images: Positive
    input_shape: tuple[Positive, Positive, Positive]
    num_classes: Positive
    is_synthetic: bool
    fingerprint: str


class WorkloadDescription(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a run trains, for the journal and the rules.

    Attributes:
        precision: Lowest arithmetic used in training: ``fp32``, ``bf16`` or ``fp16``.
        departures: How this differs from the workload's own reference setting (data set, initial network,
            preprocessing), one phrase each; empty for the reference itself.
    """

    name: str
    dataset: DatasetDescription
    initial_architecture: str
    precision: str
    departures: tuple[str, ...]


class Inheritance(msgspec.Struct, frozen=True, gc=False, kw_only=True, forbid_unknown_fields=True):
    """The trial whose final weights another one may start from.

    Attributes:
        trial: The parent; `weights_name` says where its weights are.
        architecture: The parent's network as it was trained.
        morphs: What leads to the child, before its hyper-parameters are applied; in order, as text.
    """

    trial: Positive
    architecture: ArchitectureDocument
    morphs: tuple[str, ...]


def weights_name(trial: int) -> str:
    """File name of a trial's final weights in the run's folder of weights."""
    return f"trial-{trial}.weights"


class TrialSpec(msgspec.Struct, frozen=True, gc=False, kw_only=True, forbid_unknown_fields=True):
    """One candidate, as a worker receives it.

    ``architecture`` is final: hyper-parameters that change the network are applied before it is counted.
    ``parent`` is None for a trial that starts from scratch.
    """

    trial: Positive
    round: Positive
    epochs: Positive
    architecture: ArchitectureDocument
    hyper_parameters: HyperParameters
    seed: Count
    parent: Inheritance | None = None


class EpochResult(msgspec.Struct, frozen=True, gc=False, kw_only=True, forbid_unknown_fields=True):
    """One finished epoch of a whole worker: training and the validation after it.

    Image counts are those really processed, over all ranks. ``parameters`` are those of the network that was
    built; they must equal the counted ones. ``inherited`` says whether the trial started from its parent's
    weights; if a parent was named and it is false, these were missing or did not fit.
    """

    epoch: Positive
    parameters: Count
    train_images: Positive
    validation_images: Positive
    validation_correct: Count
    train_loss: float
    ranks: tuple[RankTimes, ...]
    inherited: bool = False

    @property
    def error(self) -> float:
        """Top-1 validation error: wrong images / images, so that 0 is exact."""
        return (self.validation_images - self.validation_correct) / self.validation_images


@dataclass(frozen=True, kw_only=True, slots=True)
class Gang:
    """One rank's place in its worker. The default process group of torch.distributed spans the ranks.

    Attributes:
        device: Device of this rank as torch names it, such as ``cpu`` or ``cuda:0``.
    """

    rank: int
    num_ranks: int
    device: str


@dataclass(slots=True)
class Progress:
    """Work of the epoch in progress, over all ranks; the trainer adds, the heartbeat reads."""

    train_images: int = 0
    validation_images: int = 0

    def reset(self) -> None:
        """Start a new epoch."""
        self.train_images = self.validation_images = 0


class Trainer(Protocol):
    """One rank's side of a workload, kept between trials."""

    def train(self, spec: TrialSpec, progress: Progress) -> Iterator[EpochResult]:
        """Build the network and train it; yield once per finished epoch, on every rank.

        Every rank yields the same values. The built network's parameter count equals the counted one.

        Raises:
            TrialError: The trial cannot go on (loss not finite, nothing processed, network not as counted);
                raised on every rank alike, so that the gang goes on with the next trial.
        """
        ...


class Workload(Protocol):
    """The master's side of a workload. Constructing it touches no data; the other calls may.

    Attributes:
        needs_devices: False if its trials can be had on simulated devices, without torch and in one process
            for all ranks of a worker. Only synthetic data may.
    """

    name: ClassVar[str]
    options_type: ClassVar[type[msgspec.Struct]]
    needs_devices: ClassVar[bool]

    def __init__(self, options: msgspec.Struct) -> None: ...

    def describe(self) -> WorkloadDescription:
        """Look at the data and say what a run would train.

        Raises:
            ConfigError: An option contradicts another or the data; its path is relative to the options.
            DataError: The data is missing or malformed.
        """
        ...

    def initial_architecture(self) -> Architecture:
        """The network that the search starts from."""
        ...

    def search_space(self) -> Mapping[str, Domain]:
        """Default domain of every hyper-parameter the trainer reads."""
        ...

    def specialise(self, architecture: Architecture, hyper_parameters: HyperParameters) -> Architecture:
        """Apply the hyper-parameters that change the network, so that what is counted is what is trained.

        ``hyper_parameters`` may be any part of the search space; what is absent changes nothing, and what an
        earlier call applied is overridden.

        Raises:
            ArchitectureError: A value fits no network, or none can be trained with it.
        """
        ...

    def training_memory_bytes(
        self, architecture: Architecture, hyper_parameters: HyperParameters, num_ranks: int
    ) -> int:
        """Estimated device memory of each of a worker's ranks to train one trial.

        Args:
            architecture: Final: hyper-parameters that change the network are applied already.
            hyper_parameters: At least those that the trainer requires.
            num_ranks: Ranks that share the work, at least 1.
        """
        ...

    def features(self) -> Mapping[str, float]:
        """Finite numbers that tell this data set and its initial network from others; may be none.

        Raises:
            DataError: The data cannot be read.
        """
        ...

    def network_features(self) -> Mapping[str, float]:
        """Further ones, measured by running the initial network; may be none.

        Called in a process of its own, so that it may import what the master does not.

        Raises:
            DataError: The data cannot be read.
            ModuleNotFoundError: A package that this takes is not installed.
        """
        ...

    def experience(self) -> ExperienceTable | None:
        """Trainings on other data sets, with features by the same names; None if none are like this one's."""
        ...

    def open(self, gang: Gang, weights_dir: Path | None = None) -> Trainer:
        """Open the data on one rank of a worker; called once per process.

        Args:
            gang: The rank's place.
            weights_dir: Folder that all workers of the run share. With it, rank 0 leaves the final weights of
                every completed trial there, and a trial with a parent starts from the parent's if they fit.
        """
        ...
