"""One rank of a gang of two that trains image classification; a program for the tests.

Usage: image_classification_rank.py RANK FOLDER

It writes what it saw to ``FOLDER/rank<RANK>.json``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
import torch.distributed as dist

from aibench.api.workload import Gang, HyperParameters, Inheritance, Progress, Trainer, TrialSpec
from aibench.architecture import Architecture, Conv, Dense, GlobalAvgPool, Input, ReLU
from aibench.architecture.morphs import apply, parse_morph
from aibench.errors import TrialError
from workloads.image_classification import ImageClassification, ImageClassificationOptions, model, trial

Builder = Callable[..., torch.nn.Module]

OPTIONS = {
    "data": "synthetic",
    "initial": "resnet18",
    "width": 4,
    "image_size": 8,
    "synthetic_train_images": 100,
    "synthetic_validation_images": 33,
    "synthetic_classes": 3,
}
# 15 images a step: 8 on rank 0 and 7 on rank 1.
HYPER_PARAMETERS: HyperParameters = {"learning_rate": 0.05, "batch_size": 15}
MORPHS = ("widen@1:x2", "deepen@3:block")


def without_batch_norm() -> Architecture:
    return Architecture(
        (
            Input(channels=3, height=8, width=8),
            Conv(inputs=(0,), channels=4, kernel=3, padding=1, bias=True),
            ReLU(inputs=(1,)),
            GlobalAvgPool(inputs=(2,)),
            Dense(inputs=(3,), features=3),
        )
    )


def make_spec(architecture: Architecture, **hyper_parameters: Any) -> TrialSpec:
    return TrialSpec(
        trial=1,
        round=1,
        epochs=2,
        architecture=architecture.to_document(),
        hyper_parameters={**HYPER_PARAMETERS, **hyper_parameters},
        seed=7,
    )


def make_child(parent: Architecture) -> TrialSpec:
    architecture = parent
    for morph in MORPHS:
        architecture = apply(architecture, parse_morph(morph))
    inheritance = Inheritance(trial=1, architecture=parent.to_document(), morphs=MORPHS)
    return msgspec.structs.replace(make_spec(architecture), trial=2, parent=inheritance)


def train(trainer: Trainer, spec: TrialSpec, build: Builder = model.build) -> dict[str, Any]:
    """Results of all epochs or the reason of the failure, the built network's state, the open images."""
    progress = Progress()
    seen: dict[str, Any] = {"epochs": [], "error": None, "state": {}}
    networks: list[torch.nn.Module] = []

    def note(*args: Any, **kwargs: Any) -> torch.nn.Module:
        networks.append(build(*args, **kwargs))
        return networks[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trial, "build", note)
        try:
            for result in trainer.train(spec, progress):
                seen["epochs"].append(msgspec.to_builtins(result))
        except TrialError as error:
            seen["error"] = str(error)
    if networks:
        seen["state"] = {name: value.tolist() for name, value in networks[0].state_dict().items()}
    seen["open_train_images"] = progress.train_images
    return seen


def fail_to_build(*_: Any, **__: Any) -> torch.nn.Module:
    raise RuntimeError("no space\nleft")


def inherit(workload: ImageClassification, gang: Gang, folder: Path) -> dict[str, Any]:
    parent = workload.initial_architecture()
    child = make_child(parent)
    trainer = workload.open(gang, folder)
    train(trainer, make_spec(parent))
    elsewhere = workload.open(gang, folder / "elsewhere" if gang.rank else folder)
    return {
        "child": train(trainer, child),
        "child whose rank 1 finds no weights": train(elsewhere, child),
        "child from scratch": train(trainer, msgspec.structs.replace(child, parent=None)),
        "weights": sorted(path.name for path in folder.glob("*.weights*")),
    }


def main(rank: int, folder: Path) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    workload = ImageClassification(msgspec.convert(OPTIONS, ImageClassificationOptions))
    gang = Gang(rank=rank, num_ranks=2, device="cpu")
    trainer = workload.open(gang)
    initial = workload.initial_architecture()
    seen = {"first": train(trainer, make_spec(initial))}
    seen["build fails on rank 1"] = train(
        trainer, make_spec(initial), fail_to_build if rank == 1 else model.build
    )
    seen["diverges"] = train(trainer, make_spec(initial, learning_rate=1e30))
    seen["batch of three"] = train(trainer, make_spec(initial, batch_size=3))
    seen["without batch norm"] = train(trainer, make_spec(without_batch_norm()))
    alone = workload.open(Gang(rank=0, num_ranks=1, device="cpu"))
    seen["without batch norm, alone"] = train(alone, make_spec(without_batch_norm()))
    seen["again"] = train(trainer, make_spec(initial))
    seen.update(inherit(workload, gang, folder))
    (folder / f"rank{rank}.json").write_text(json.dumps(seen))
    dist.destroy_process_group()


main(int(sys.argv[1]), Path(sys.argv[2]))
