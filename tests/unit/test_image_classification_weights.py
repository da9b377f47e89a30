"""Trials that leave their weights to children, and children that start from them."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from torch import Tensor, nn

from aibench.api.workload import EpochResult, Gang, Inheritance, Progress, Trainer, TrialSpec, weights_name
from aibench.architecture import Architecture, Shape
from aibench.architecture.morphs import apply, parse_morph
from aibench.architecture.resnet import resnet
from workloads.image_classification import (
    ImageClassification,
    ImageClassificationOptions,
    model,
    stepper,
    trial,
)
from workloads.image_classification.weights import load_weights, save_weights

GANG = Gang(rank=0, num_ranks=1, device="cpu")
INITIAL = resnet("resnet18", Shape(1, 8, 8), 10, width=4)
MORPHS = ("deepen@6:conv", "widen@1:x2", "skip@3-6:concat", "deepen@3:block")


def open_trainer(folder: Path | None) -> Trainer:
    options = ImageClassificationOptions(data="digits", initial="resnet18", width=4)
    return ImageClassification(options).open(GANG, folder)


def make_spec(architecture: Architecture = INITIAL, *, number: int = 1, **changes: Any) -> TrialSpec:
    spec = TrialSpec(
        trial=number,
        round=1,
        epochs=1,
        architecture=architecture.to_document(),
        hyper_parameters={"learning_rate": 0.05, "batch_size": 32},
        seed=number,
    )
    return msgspec.structs.replace(spec, **changes)


def train(trainer: Trainer, spec: TrialSpec) -> list[EpochResult]:
    return list(trainer.train(spec, Progress()))


def child_spec(morphs: tuple[str, ...] = MORPHS, **changes: Any) -> TrialSpec:
    """A child of trial 1."""
    architecture = INITIAL
    for morph in morphs:
        architecture = apply(architecture, parse_morph(morph))
    parent = Inheritance(trial=1, architecture=INITIAL.to_document(), morphs=morphs)
    return make_spec(architecture, number=7, **{"parent": parent, **changes})


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """What each network answers to some images before its first step, in evaluation mode."""
    answers: list[Tensor] = []

    def note(network: nn.Module, **values: Any) -> stepper.Stepper:
        answers.append(answer(network))
        return stepper.Stepper(network, **values)

    monkeypatch.setattr(trial, "Stepper", note)
    return answers


@pytest.fixture
def _without_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial.TrialRun, "_train", lambda *_: (1, torch.zeros(())))


@torch.no_grad()
def answer(network: nn.Module) -> Tensor:
    was_training = network.training
    images = torch.randn((32, 1, 8, 8), generator=torch.Generator().manual_seed(1))
    logits: Tensor = network.eval()(images)
    network.train(was_training)
    return logits


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds the weights of trial 1."""
    folder = tmp_path_factory.mktemp("weights")
    assert train(open_trainer(folder), make_spec(epochs=2))[-1].validation_correct > 120
    return folder


def test_a_completed_trial_leaves_one_file_and_nothing_else(folder: Path) -> None:
    assert [path.name for path in folder.glob("trial-1*")] == ["trial-1.weights"]


@pytest.mark.usefixtures("_without_training")
def test_without_a_folder_nothing_is_left_and_nothing_inherited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (result,) = train(open_trainer(None), child_spec())
    assert not result.inherited
    assert list(tmp_path.iterdir()) == []


def test_a_child_starts_with_its_parents_answers(folder: Path, started: list[Tensor]) -> None:
    spec = child_spec(epochs=2)
    assert spec.parent is not None
    parent = model.build(INITIAL, seed=0)
    parent.load_state_dict(load_weights(folder, spec.parent))
    expected = answer(parent)
    results = train(open_trainer(folder), spec)
    assert [result.inherited for result in results] == [True, True]
    assert expected.abs().max() > 1.0
    torch.testing.assert_close(started[0], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.usefixtures("_without_training")
def test_a_child_validates_as_its_parent_does_before_it_trains(folder: Path) -> None:
    trainer = open_trainer(folder)
    specs = (child_spec(()), child_spec(), child_spec(parent=None))
    parent, child, scratch = (train(trainer, spec)[0] for spec in specs)
    assert parent.validation_correct > 120
    assert child.validation_correct == parent.validation_correct
    assert scratch.validation_correct < 100
    assert [result.inherited for result in (parent, child, scratch)] == [True, True, False]


@pytest.mark.usefixtures("_without_training")
def test_the_same_child_starts_the_same_and_another_seed_shares_weights_otherwise(
    folder: Path, started: list[Tensor]
) -> None:
    trainer = open_trainer(folder)
    networks = []
    for seed in (5, 5, 6):
        train(trainer, child_spec(seed=seed))
        parent = Inheritance(trial=7, architecture=child_spec().architecture, morphs=())
        networks.append(load_weights(folder, parent))
    assert torch.equal(started[0], started[1])
    same, differ = (all(torch.equal(networks[0][k], other[k]) for k in other) for other in networks[1:])
    assert (same, differ) == (True, False)


def test_a_trial_given_up_leaves_no_weights(tmp_path: Path) -> None:
    epochs = open_trainer(tmp_path).train(make_spec(epochs=2), Progress())
    next(iter(epochs))
    epochs.close()  # type: ignore[attr-defined]
    assert list(tmp_path.iterdir()) == []


def damage(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:1000])


def replace_network(path: Path) -> None:
    other = make_spec(resnet("resnet18", Shape(1, 8, 8), 10, width=2))
    save_weights(path.parent, other, model.build(other.architecture.to_architecture(), seed=1))


def replace_weights(path: Path) -> None:
    save_weights(path.parent, make_spec(), nn.Linear(2, 2))


def replace_by_code(path: Path) -> None:
    torch.save({"architecture": Path("never unpickled"), "state": {}}, path)


@pytest.mark.usefixtures("_without_training")
@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (Path.unlink, "No such file"),
        (damage, ""),
        (replace_network, "holds the weights of another network"),
        (replace_weights, "the weights do not fit their network"),
        (replace_by_code, "Weights only load failed"),
    ],
)
def test_weights_that_are_missing_or_unfit_leave_the_child_to_start_from_scratch(
    spoil: Any, reason: str, folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / weights_name(1)
    path.write_bytes((folder / weights_name(1)).read_bytes())
    spoil(path)
    with caplog.at_level(logging.WARNING):
        (result,) = train(open_trainer(tmp_path), child_spec())
    assert not result.inherited
    (message,) = [record.getMessage() for record in caplog.records]
    assert message.startswith("trial 7 starts from scratch: ")
    assert reason in message


@pytest.mark.usefixtures("_without_training")
def test_morphs_that_lead_elsewhere_leave_the_child_to_start_from_scratch(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spec = child_spec()
    assert spec.parent is not None
    wrong = msgspec.structs.replace(spec.parent, morphs=MORPHS[:2])
    (result,) = train(open_trainer(folder), msgspec.structs.replace(spec, parent=wrong))
    assert not result.inherited
    assert "do not lead from the parent to this network" in caplog.text


@pytest.mark.usefixtures("_without_training")
def test_a_folder_that_is_not_there_costs_the_weights_and_not_the_trial(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert len(train(open_trainer(tmp_path / "elsewhere"), make_spec())) == 1
    assert "trial 1 leaves no weights" in caplog.text
