from __future__ import annotations

import subprocess
import sys
from typing import Any

import msgspec
import pytest

from aibench.api.space import Domain
from aibench.errors import ConfigError
from aibench.search.config import SearchConfig, resolve_space

DEFAULTS = {
    "learning_rate": Domain(low=0.001, high=1.0, log=True),
    "batch_size": Domain(choices=(64, 128)),
    "dropout": Domain(choices=(0.0, 0.5)),
    "optimizer": Domain(choices=("sgd", "adamw")),
    "schedule": Domain(choices=("cosine", 10)),
}


def test_defaults_search_architectures_and_hyper_parameters() -> None:
    config = SearchConfig()
    assert (config.architecture, config.hyper_parameters) == ("evolution", "tpe")
    assert (config.space, config.max_morphs, config.max_ops_ratio) == ({}, 3, 4.0)


@pytest.mark.parametrize(("architecture", "is_enabled"), [("random", True), ("none", False)])
def test_a_search_of_hyper_parameters_alone_is_no_search(architecture: Any, is_enabled: bool) -> None:
    assert SearchConfig(architecture=architecture).is_enabled is is_enabled


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        ({"architecture": "bayes"}, "Invalid enum value 'bayes' - at `$.architecture`"),
        ({"hyper_parameters": "grid"}, "Invalid enum value 'grid' - at `$.hyper_parameters`"),
        ({"max_morphs": 0}, "Expected `int` >= 1 - at `$.max_morphs`"),
        ({"max_ops_ratio": 1.0}, "Expected `float` > 1.0 - at `$.max_ops_ratio`"),
        ({"space": {"batch_size": {"choices": []}}}, "choices is empty, expected at least one value"),
        ({"pool": 3}, "Object contains unknown field `pool`"),
    ],
)
def test_unusable_values_are_refused_with_their_place(document: dict[str, Any], problem: str) -> None:
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.convert(document, SearchConfig)
    assert problem in str(caught.value)


def test_overrides_replace_whole_domains() -> None:
    narrow = Domain(choices=(0.1, 1))
    space = resolve_space(DEFAULTS, {"learning_rate": narrow})
    assert space == {**DEFAULTS, "learning_rate": narrow}
    assert list(space) == list(DEFAULTS)


def test_an_unknown_name_is_refused_with_the_nearest_known_one() -> None:
    with pytest.raises(ConfigError) as caught:
        resolve_space(DEFAULTS, {"batchsize": Domain(choices=(1,))})
    assert str(caught.value) == (
        "search.space.batchsize: the workload has no such hyper-parameter, expected one of "
        "batch_size, dropout, learning_rate, optimizer, schedule; did you mean 'batch_size'?"
    )


def test_a_name_like_no_other_is_refused_without_a_guess() -> None:
    with pytest.raises(ConfigError) as caught:
        resolve_space(DEFAULTS, {"zzz": Domain(choices=(1,))})
    assert str(caught.value).endswith("learning_rate, optimizer, schedule")


@pytest.mark.parametrize(
    ("name", "domain", "problem"),
    [
        ("batch_size", Domain(low=8, high=64), "holds float values, expected int"),
        ("batch_size", Domain(choices=(64, 128.5)), "holds float or int values, expected int"),
        ("batch_size", Domain(choices=("64",)), "holds str values, expected int"),
        ("learning_rate", Domain(choices=("high",)), "holds str values, expected float"),
        ("optimizer", Domain(choices=("sgd", 1)), "holds int or str values, expected str"),
        ("schedule", Domain(choices=(0.5,)), "holds float values, expected int or str"),
    ],
)
def test_values_of_another_kind_are_refused(name: str, domain: Domain, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve_space(DEFAULTS, {name: domain})
    assert str(caught.value) == f"search.space.{name}: {problem} as the workload has"


@pytest.mark.parametrize(
    ("name", "domain"),
    [
        ("learning_rate", Domain(choices=(1, 0.5))),
        ("dropout", Domain(low=0.0, high=0.9)),
        ("schedule", Domain(choices=("cosine",))),
        ("optimizer", Domain(choices=("lamb",))),
    ],
)
def test_values_of_the_same_kind_are_taken(name: str, domain: Domain) -> None:
    assert resolve_space(DEFAULTS, {name: domain})[name] == domain


def test_reading_a_configuration_loads_neither_optuna_nor_torch() -> None:
    program = "import aibench.search.config, sys; print({'optuna', 'torch'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout == "set()\n"


def test_searching_loads_no_torch() -> None:
    program = "import aibench.search.search, sys; print({'torch'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout == "set()\n"
