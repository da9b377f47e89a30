"""What every workload promises to the suite, whatever it trains."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from aibench.api.space import Domain, Scalar
from aibench.api.workload import (
    EpochResult,
    Gang,
    HyperParameters,
    Inheritance,
    Progress,
    Trainer,
    TrialSpec,
    Workload,
    weights_name,
)
from aibench.architecture import Architecture, Input
from aibench.errors import TrialError
from aibench.registry import workload_type

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "digits": ("image_classification", {"data": "digits", "initial": "resnet18", "width": 4}),
    "synthetic": (
        "image_classification",
        {
            "data": "synthetic",
            "initial": "resnet18",
            "width": 2,
            "image_size": 12,
            "synthetic_train_images": 100,
            "synthetic_validation_images": 30,
            "synthetic_classes": 4,
        },
    ),
    "sleeping": ("synthetic", {"epoch_s": 0.01, "image_size": 12, "width": 2, "classes": 4}),
    "generated": (
        "image_classification",
        {
            "data": "generated",
            "initial": "resnet18",
            "width": 2,
            "image_size": 8,
            "generated_train_images": 100,
            "generated_validation_images": 30,
            "generated_classes": 4,
        },
    ),
}
GANG = Gang(rank=0, num_ranks=1, device="cpu")


@pytest.fixture(scope="module", params=list(CASES.values()), ids=list(CASES))
def case(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    name, options = request.param
    return name, options


@pytest.fixture(scope="module")
def workload(case: tuple[str, dict[str, Any]]) -> Workload:
    return create(*case)


@pytest.fixture(scope="module")
def trainer(workload: Workload) -> Trainer:
    return workload.open(GANG)


def create(name: str, options: dict[str, Any]) -> Workload:
    kind = workload_type(name)
    return kind(msgspec.convert(options, kind.options_type))


def lowest(domain: Domain) -> Scalar:
    if domain.choices is not None:
        return domain.choices[0]
    assert domain.low is not None
    return domain.low


def highest(domain: Domain) -> Scalar:
    if domain.choices is not None:
        return domain.choices[-1]
    assert domain.high is not None
    return domain.high


def corners(space: Mapping[str, Domain]) -> tuple[HyperParameters, HyperParameters]:
    return (
        {name: lowest(domain) for name, domain in space.items()},
        {name: highest(domain) for name, domain in space.items()},
    )


def make_spec(
    workload: Workload, hyper_parameters: HyperParameters | None = None, **changes: Any
) -> TrialSpec:
    values = hyper_parameters or corners(workload.search_space())[0]
    architecture = workload.specialise(workload.initial_architecture(), values)
    spec = TrialSpec(
        trial=1,
        round=1,
        epochs=2,
        architecture=architecture.to_document(),
        hyper_parameters=values,
        seed=1,
    )
    return msgspec.structs.replace(spec, **changes)


def train(trainer: Trainer, spec: TrialSpec) -> list[EpochResult]:
    return list(trainer.train(spec, Progress()))


def test_it_goes_by_the_name_it_is_registered_under(case: tuple[str, Any], workload: Workload) -> None:
    assert workload.name == case[0]
    assert workload.describe().name == case[0]


def test_options_refuse_what_they_do_not_know(case: tuple[str, dict[str, Any]]) -> None:
    name, options = case
    with pytest.raises(msgspec.ValidationError, match="unknown field `no_such_option`"):
        create(name, {**options, "no_such_option": 1})


def test_options_survive_the_journal(case: tuple[str, dict[str, Any]]) -> None:
    name, options = case
    kind = workload_type(name).options_type
    resolved = msgspec.convert(options, kind)
    assert msgspec.json.decode(msgspec.json.encode(resolved), type=kind) == resolved


def test_its_description_is_the_same_for_every_look(case: tuple[str, Any], workload: Workload) -> None:
    description = workload.describe()
    assert create(*case).describe() == description
    assert len(description.dataset.fingerprint) == 64
    assert msgspec.json.decode(msgspec.json.encode(description), type=type(description)) == description


def test_its_initial_network_fits_its_data(workload: Workload) -> None:
    dataset = workload.describe().dataset
    architecture = workload.initial_architecture()
    assert architecture.input_shape == dataset.input_shape
    assert architecture.output_shape == (dataset.num_classes, 1, 1)
    assert workload.initial_architecture() == architecture


def test_specialising_keeps_the_ends_repeats_and_overrides(workload: Workload) -> None:
    initial = workload.initial_architecture()
    low, high = corners(workload.search_space())
    first = workload.specialise(initial, low)
    second = workload.specialise(initial, high)
    assert first != second
    for architecture in (first, second):
        assert (architecture.input_shape, architecture.output_shape) == (
            initial.input_shape,
            initial.output_shape,
        )
    assert workload.specialise(first, low) == first
    assert workload.specialise(first, high) == second
    assert workload.specialise(second, low) == first


def test_specialising_leaves_alone_what_it_is_not_told(workload: Workload) -> None:
    initial = workload.initial_architecture()
    assert workload.specialise(initial, {}) == initial
    assert workload.specialise(initial, {"no_such_hyper_parameter": 1}) == initial


def test_ranks_share_the_memory_that_training_needs(workload: Workload) -> None:
    architecture = workload.initial_architecture()
    for values in corners(workload.search_space()):
        needed = [workload.training_memory_bytes(architecture, values, num_ranks) for num_ranks in (8, 2, 1)]
        assert 0 < needed[0] < needed[1] < needed[2]


def test_its_features_are_finite_numbers_that_repeat(case: tuple[str, Any], workload: Workload) -> None:
    again = create(*case)
    for features in (workload.features(), workload.network_features()):
        assert all(math.isfinite(value) for value in features.values())
    assert again.features() == workload.features()
    assert again.network_features() == pytest.approx(workload.network_features())


def test_its_experience_is_of_its_own_features_and_its_own_space(workload: Workload) -> None:
    table = workload.experience()
    if table is None:
        return
    measured = {**workload.features(), **workload.network_features()}
    for experience in table.experiences:
        assert set(experience.features) == set(measured)
    for point in table.points:
        assert set(point) == set(workload.search_space())


def test_the_masters_side_needs_no_torch(case: tuple[str, dict[str, Any]]) -> None:
    name, options = case
    program = f"""
import sys
import msgspec
from aibench.registry import workload_type
kind = workload_type({name!r})
workload = kind(msgspec.convert({options!r}, kind.options_type))
network = workload.specialise(workload.initial_architecture(), {{}})
values = {{name: domain.choices[0] if domain.choices else domain.low
          for name, domain in workload.search_space().items()}}
workload.describe(), workload.training_memory_bytes(network, values, 8)
workload.features(), workload.experience()
assert "torch" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_without_need_of_devices_it_trains_made_up_data_without_torch(
    case: tuple[str, dict[str, Any]], workload: Workload
) -> None:
    if workload.needs_devices:
        return
    assert workload.describe().dataset.is_synthetic
    name, options = case
    values, _ = corners(workload.search_space())
    spec = msgspec.json.encode(make_spec(workload, values, epochs=1))
    program = f"""
import sys
import msgspec
from aibench.api.workload import Gang, Progress, TrialSpec
from aibench.registry import workload_type
kind = workload_type({name!r})
trainer = kind(msgspec.convert({options!r}, kind.options_type)).open(
    Gang(rank=0, num_ranks=3, device="simulated")
)
(result,) = trainer.train(msgspec.json.decode({spec!r}, type=TrialSpec), Progress())
assert len(result.ranks) == 3
assert "torch" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_it_trains_at_both_ends_of_its_search_space(workload: Workload, trainer: Trainer) -> None:
    dataset = workload.describe().dataset
    for hyper_parameters in corners(workload.search_space()):
        results = train(trainer, make_spec(workload, hyper_parameters))
        assert [result.epoch for result in results] == [1, 2]
        for result in results:
            assert result.train_images <= dataset.train_images
            assert result.validation_images == dataset.validation_images
            assert result.validation_correct <= result.validation_images
            assert len(result.ranks) == 1


def test_the_same_seed_gives_the_same_results(workload: Workload, trainer: Trainer) -> None:
    def figures(seed: int) -> list[tuple[float, int]]:
        results = train(trainer, make_spec(workload, epochs=1, seed=seed))
        return [(result.train_loss, result.validation_correct) for result in results]

    assert figures(3) == figures(3)
    assert figures(3) != figures(4)


def test_a_trial_that_cannot_be_trained_fails_and_the_next_one_goes_on(
    workload: Workload, trainer: Trainer
) -> None:
    values = corners(workload.search_space())[0]
    other = Architecture((Input(channels=1, height=1, width=1),)).to_document()
    unusable = (
        make_spec(workload, architecture=other),
        make_spec(workload, hyper_parameters={**values, "no_such_hyper_parameter": 1}),
    )
    for spec in unusable:
        with pytest.raises(TrialError):
            train(trainer, spec)
    assert len(train(trainer, make_spec(workload, epochs=1))) == 1


def test_a_child_starts_from_its_parents_weights_if_they_are_there(
    workload: Workload, tmp_path: Path
) -> None:
    trainer = workload.open(GANG, tmp_path)
    spec = make_spec(workload, epochs=1)
    parent = Inheritance(trial=1, architecture=spec.architecture, morphs=())
    child = msgspec.structs.replace(spec, trial=2, parent=parent)
    assert [result.inherited for result in train(trainer, child)] == [False]
    assert [result.inherited for result in train(trainer, spec)] == [False]
    assert (tmp_path / weights_name(1)).is_file()
    assert [result.inherited for result in train(trainer, child)] == [True]


def test_open_images_are_those_of_an_unfinished_epoch(workload: Workload, trainer: Trainer) -> None:
    progress = Progress(train_images=1, validation_images=1)
    for _ in trainer.train(make_spec(workload), progress):
        assert (progress.train_images, progress.validation_images) == (0, 0)
