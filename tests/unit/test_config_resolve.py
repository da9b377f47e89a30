import importlib
import json
import sys
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest
import yaml
from support.fake_workload import FakeWorkload, make_config

from aibench.api.space import Domain
from aibench.api.workload import HyperParameters
from aibench.architecture import Architecture, Conv, Dense, GlobalAvgPool, Input
from aibench.config import RunConfig, load_config, resolve
from aibench.config.validate import to_section
from aibench.counting import count
from aibench.errors import ConfigError
from aibench.registry import workload_type
from launchers.local import LocalLauncher


class KernelWorkload(FakeWorkload):
    """With a hyper-parameter that changes the network."""

    def search_space(self) -> Mapping[str, Domain]:
        return {**super().search_space(), "kernel": Domain(choices=(3, 5))}

    def specialise(self, architecture: Architecture, hyper_parameters: HyperParameters) -> Architecture:
        kernel = hyper_parameters.get("kernel", 3)
        assert isinstance(kernel, int)
        return Architecture(
            tuple(
                msgspec.structs.replace(node, kernel=kernel, padding=kernel // 2)
                if isinstance(node, Conv) and node.kernel > 1
                else node
                for node in architecture.nodes
            )
        )


@pytest.fixture(autouse=True)
def _fake_workload(monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module("aibench.config.resolve")
    monkeypatch.setattr(
        module, "workload_type", lambda name: KernelWorkload if name == "fake" else workload_type(name)
    )


def refusal(**sections: Any) -> str:
    with pytest.raises(ConfigError) as refused:
        resolve(make_config(**sections))
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_plugins_data_and_space_are_resolved() -> None:
    resolved = resolve(make_config(workload={"name": "fake", "width": 8}))
    assert isinstance(resolved.workload, FakeWorkload)
    assert isinstance(resolved.launcher, LocalLauncher)
    assert resolved.workload_name == "fake"
    assert resolved.workload_options == {"width": 8, "refused": ""}
    assert resolved.description.dataset.train_images == 100
    assert sorted(resolved.space) == ["kernel", "learning_rate", "momentum"]
    assert resolved.memory is None


def test_the_document_holds_every_default_and_leads_to_the_same_run() -> None:
    resolved = resolve(make_config(search={"space": {"learning_rate": {"choices": [0.1]}}}))
    document = msgspec.json.decode(msgspec.json.encode(resolved.document))
    assert document["workload"] == {"name": "fake", "width": 4, "refused": ""}
    assert document["launcher"] == {"name": "local"}
    assert document["search"]["space"] == {
        "learning_rate": {"choices": [0.1]},
        "momentum": {"choices": [0.5, 0.9]},
        "kernel": {"choices": [3, 5]},
    }
    assert resolve(to_section(document, RunConfig)).document == resolved.document


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        (
            {"start": {"min_workers": 3}},
            "start.min_workers: got 3; expected at most the 2 configured worker(s)",
        ),
        ({"workload": {}}, "workload.name: got None; expected the name of a workload"),
        ({"workload": {"name": 3}}, "workload.name: got 3; expected the name of a workload"),
        ({"launcher": {"nam": "local"}}, "launcher.nam: unknown key (known: none)"),
        ({"launcher": {"name": "locl"}}, "launcher.name: 'locl' is unknown (did you mean 'local'?); known: "),
        ({"workload": {"name": "nothing"}}, "workload.name: 'nothing' is unknown; known: "),
        ({"launcher": {"name": "local", "a": 1}}, "launcher.a: unknown key (known: none)"),
        (
            {"workload": {"name": "fake", "widht": 1}},
            "workload.widht: unknown key (did you mean 'width'?)",
        ),
        ({"workload": {"name": "fake", "width": 0}}, "workload.width: got 0; expected int >= 1"),
        (
            {"workload": {"name": "fake", "refused": "that"}},
            "workload.refused: got 'that'; expected nothing",
        ),
        (
            {"search": {"space": {"learning_rat": {"low": 0, "high": 1}}}},
            "search.space.learning_rat: the workload has no such hyper-parameter",
        ),
        (
            {"search": {"space": {"momentum": None}}},
            "search.space.momentum: got null; the trainer needs it, expected a domain "
            "(null may take out: kernel)",
        ),
        (
            {"search": {"max_ops_ratio": 1.000001}},
            "search.max_ops_ratio: got 1.000001; the cheapest child of the initial network takes 1.00",
        ),
        (
            {"search": {"max_memory_gib": 1e-6}},
            "search.max_memory_gib: the initial network needs an estimated ",
        ),
        (
            {"search": {"first_points": [{}, {"momentun": 0.5}]}},
            "search.first_points.1.momentun: the workload has no such hyper-parameter, expected one of "
            "kernel, learning_rate, momentum; did you mean 'momentum'?",
        ),
        (
            {"search": {"first_points": [{"momentum": 0.6}]}},
            "search.first_points.0.momentum: got 0.6; expected one of 0.5, 0.9",
        ),
        (
            {"search": {"first_points": [{}, {}, {"learning_rate": 1.5}]}},
            "search.first_points.2.learning_rate: got 1.5; expected a number from 0.01 to 1",
        ),
        (
            {"search": {"first_points": [{"kernel": 3}], "space": {"kernel": None}}},
            "search.first_points.0.kernel: the workload has no such hyper-parameter",
        ),
        (
            {
                "workload": {"name": "image_classification", "data": "synthetic", "initial": "resnet18"},
                "workers": [{"device": "cpu"}, {"device": "simulated"}],
            },
            "workers.1.device: got 'simulated'; workload 'image_classification' needs real devices, such as ",
        ),
    ],
)
def test_what_does_not_fit_together_is_refused_before_a_run(sections: dict[str, Any], message: str) -> None:
    assert refusal(**sections).startswith(message)


def test_a_workload_without_need_of_devices_may_have_simulated_ones() -> None:
    sections = {"workload": {"name": "synthetic"}, "workers": [{"ranks": 8, "device": "simulated"}]}
    assert resolve(make_config(**sections)).description.dataset.is_synthetic


def test_as_many_workers_as_configured_may_be_waited_for() -> None:
    assert resolve(make_config(start={"min_workers": 2})).config.start.min_workers == 2


def test_the_ready_made_smoke_configuration_resolves() -> None:
    resolved = resolve(load_config("smoke"))
    assert resolved.workload_name == "image_classification"
    assert resolved.description.dataset.num_classes == 10


def test_a_hyper_parameter_of_the_network_alone_is_taken_out_and_stays_out() -> None:
    resolved = resolve(make_config(search={"space": {"kernel": None}, "first_points": [{"momentum": 0.5}]}))
    assert sorted(resolved.space) == ["learning_rate", "momentum"]
    document = yaml.safe_load(yaml.safe_dump(resolved.document))
    assert document["search"]["space"]["kernel"] is None
    assert document["search"]["first_points"] == [{"momentum": 0.5}]
    again = resolve(to_section(document, RunConfig))
    assert sorted(again.space) == ["learning_rate", "momentum"]
    assert again.document == resolved.document


def test_memory_is_that_of_a_rank_of_the_smallest_workers() -> None:
    resolved = resolve(
        make_config(search={"max_memory_gib": 2.5}, workers=[{"ranks": 4}, {"ranks": 2}, {"ranks": 8}])
    )
    assert resolved.memory is not None
    assert resolved.memory.max_gib == 2.5
    parameters = count(resolved.initial).parameters
    assert resolved.memory.estimate(resolved.initial, {"momentum": 0.9}) == parameters


def test_an_initial_network_over_the_memory_limit_is_refused_with_what_helps() -> None:
    needed = count(resolve(make_config()).initial).parameters
    limit = needed / 2**30 * 0.99
    assert refusal(search={"max_memory_gib": limit}) == (
        f"search.max_memory_gib: the initial network needs an estimated {needed / 2**30:.3g} GiB per rank "
        f"for training, expected at most {limit:g} GiB (with momentum 0.5); raise the limit, offer a smaller "
        "search.space.momentum or use more ranks"
    )
    resolve(make_config(search={"architecture": "none", "max_memory_gib": limit / 0.99}))


def test_a_search_in_which_no_child_fits_the_memory_is_refused() -> None:
    limit = count(resolve(make_config()).initial).parameters / 2**30
    assert refusal(search={"max_memory_gib": limit}).startswith(
        "search.max_memory_gib: no morph of the initial network fits: one needs an estimated "
    )


def test_a_first_point_for_which_there_is_no_memory_is_refused() -> None:
    limit = count(resolve(make_config()).initial).parameters / 2**30 * 1.5
    points = [{"momentum": 0.5}, {"momentum": 0.9}]
    assert refusal(search={"max_memory_gib": limit, "first_points": points}).startswith(
        "search.first_points.1: the initial network needs an estimated "
    )
    resolve(make_config(search={"max_memory_gib": limit, "first_points": points[:1]}))


def test_without_a_search_of_architectures_nothing_need_be_affordable() -> None:
    resolve(make_config(search={"architecture": "none", "max_ops_ratio": 1.000001}))


def test_a_network_without_morphs_cannot_be_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    bare = Architecture(
        (Input(channels=3, height=8, width=8), GlobalAvgPool(inputs=(0,)), Dense(inputs=(1,), features=10))
    )
    monkeypatch.setattr(FakeWorkload, "initial_architecture", lambda _: bare)
    assert refusal(search={"architecture": "evolution"}) == (
        "search.architecture: got 'evolution'; no morph applies to the initial network, so only 'none' is "
        "possible"
    )


@pytest.mark.parametrize(
    ("search", "message"),
    [
        (
            {"hyper_parameters": "cma-es"},
            "search.hyper_parameters: got 'cma-es'; expected one of cma_es, gp, nsga_ii, random, tpe "
            "(did you mean 'cma_es'?)",
        ),
        (
            {"architecture": "evolutionary"},
            "search.architecture: got 'evolutionary'; expected one of evolution, network_morphism, none, "
            "random (did you mean 'evolution'?)",
        ),
        (
            {"space": {"learning_rate": {"low": 1.0, "high": 0.1}}},
            "search.space.learning_rate: low 1 is above high 0.1",
        ),
        (
            {"space": {"learning_rate": {"low": 0.1, "high": float("inf")}}},
            "search.space.learning_rate: low 0.1 and high inf must be finite numbers",
        ),
        (
            {"space": {"learning_rate": {"low": float("nan"), "high": 0.1}}},
            "search.space.learning_rate: low nan and high 0.1 must be finite numbers",
        ),
        (
            {"space": {"learning_rate": {"choices": [float("nan")]}}},
            "search.space.learning_rate: choices must be finite numbers or text",
        ),
        (
            {"space": {"learning_rate": {"low": -1e308, "high": 1e308}}},
            "search.space.learning_rate: low -1e+308 and high 1e+308 are too far apart to count between",
        ),
        ({"max_memory_gib": 0}, "search.max_memory_gib: got 0; expected float > 0.0"),
        ({"max_morphs": 101}, "search.max_morphs: got 101; expected int <= 100"),
        ({"max_ops_ratio": 1e308}, "search.max_ops_ratio: got 1e+308; expected float <= 1000000000.0"),
    ],
)
def test_a_search_section_that_means_nothing_is_refused(search: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        make_config(search=search)
    assert str(refused.value) == message


def test_a_sampler_without_its_package_is_refused_before_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cmaes", None)
    assert refusal(search={"hyper_parameters": "cma_es"}).startswith(
        "search.hyper_parameters: got 'cma_es', which needs the package cmaes"
    )


@pytest.mark.parametrize(
    ("name", "domain", "problem"),
    [
        ("batch_size", {"choices": [64, 0]}, "got 0; 'batch_size': 0, expected a whole number above 0"),
        (
            "learning_rate",
            {"low": -0.1, "high": 0.1},
            "got -0.1; 'learning_rate': -0.1, expected a number above 0",
        ),
    ],
)
def test_values_that_no_trial_can_be_trained_with_are_refused_before_a_run(
    name: str, domain: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve(load_config("smoke", [f"search.space.{name}={json.dumps(domain)}"]))
    assert str(caught.value) == f"search.space.{name}: {problem}"
