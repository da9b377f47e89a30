"""A workload without data and without torch: what the master's side needs, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from aibench.api.features import ExperienceTable
from aibench.api.space import Domain
from aibench.api.workload import (
    DatasetDescription,
    Gang,
    HyperParameters,
    Positive,
    Trainer,
    WorkloadDescription,
)
from aibench.architecture import Architecture, Shape
from aibench.architecture.resnet import resnet
from aibench.config import ResolvedRun, RunConfig
from aibench.config.validate import to_section
from aibench.counting import count
from aibench.errors import ConfigError
from launchers.local import LocalLauncher, LocalOptions

TRAIN_IMAGES = 100
VALIDATION_IMAGES = 20


class FakeOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    width: Positive = 4
    refused: str = ""


class FakeWorkload:
    name: ClassVar[str] = "fake"
    options_type: ClassVar[type[msgspec.Struct]] = FakeOptions
    needs_devices: ClassVar[bool] = False

    def __init__(self, options: msgspec.Struct) -> None:
        assert isinstance(options, FakeOptions)
        self.options = options

    def describe(self) -> WorkloadDescription:
        if self.options.refused:
            raise ConfigError("refused", f"got {self.options.refused!r}; expected nothing")
        dataset = DatasetDescription(
            name="nothing",
            train_images=TRAIN_IMAGES,
            validation_images=VALIDATION_IMAGES,
            input_shape=(3, 8, 8),
            num_classes=10,
            is_synthetic=True,
            fingerprint="0",
        )
        return WorkloadDescription(
            name=self.name, dataset=dataset, initial_architecture="tiny", precision="fp32", departures=()
        )

    def initial_architecture(self) -> Architecture:
        return resnet("resnet18", Shape(3, 8, 8), 10, width=self.options.width)

    def search_space(self) -> Mapping[str, Domain]:
        return {"learning_rate": Domain(low=0.01, high=1.0, log=True), "momentum": Domain(choices=(0.5, 0.9))}

    def specialise(self, architecture: Architecture, hyper_parameters: HyperParameters) -> Architecture:
        return architecture

    def training_memory_bytes(
        self, architecture: Architecture, hyper_parameters: HyperParameters, num_ranks: int
    ) -> int:
        return count(architecture).parameters * (2 if hyper_parameters["momentum"] == 0.9 else 1) // num_ranks

    def features(self) -> Mapping[str, float]:
        return {}

    def network_features(self) -> Mapping[str, float]:
        return {}

    def experience(self) -> ExperienceTable | None:
        return None

    def open(self, gang: Gang, weights_dir: Path | None = None) -> Trainer:
        raise NotImplementedError


def make_config(**sections: Any) -> RunConfig:
    """Two workers and no limit that a test would meet, unless it asks for one."""
    document = {
        "name": "test",
        "division": "smoke",
        "workload": {"name": "fake"},
        "workers": [{"count": 2, "device": "cpu"}],
        "limits": {"trials": 1000},
        "epochs": {"warmup": [2, 3], "full": 4},
        "search": {"max_morphs": 1, "hyper_parameters": "random"},
    }
    return to_section({**document, **sections}, RunConfig)


def make_resolved(config: RunConfig) -> ResolvedRun:
    workload = FakeWorkload(FakeOptions())
    return ResolvedRun(
        config=config,
        workload=workload,
        workload_name="fake",
        workload_options={"width": 4, "refused": ""},
        launcher=LocalLauncher(LocalOptions()),
        description=workload.describe(),
        initial=workload.initial_architecture(),
        space=workload.search_space(),
        document=msgspec.to_builtins(config),
    )
