import importlib
from typing import Any

import msgspec
import pytest
from support.fake_workload import FakeWorkload, make_config

from aibench.config import RunConfig, load_config, resolve
from aibench.config.validate import to_section
from aibench.errors import ConfigError
from aibench.registry import workload_type
from launchers.local import LocalLauncher


@pytest.fixture(autouse=True)
def _fake_workload(monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module("aibench.config.resolve")
    monkeypatch.setattr(
        module, "workload_type", lambda name: FakeWorkload if name == "fake" else workload_type(name)
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
    assert sorted(resolved.space) == ["learning_rate", "momentum"]


def test_the_document_holds_every_default_and_leads_to_the_same_run() -> None:
    resolved = resolve(make_config(search={"space": {"learning_rate": {"choices": [0.1]}}}))
    document = msgspec.json.decode(msgspec.json.encode(resolved.document))
    assert document["workload"] == {"name": "fake", "width": 4, "refused": ""}
    assert document["launcher"] == {"name": "local"}
    assert document["search"]["space"] == {
        "learning_rate": {"choices": [0.1]},
        "momentum": {"choices": [0.5, 0.9]},
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
    ],
)
def test_what_does_not_fit_together_is_refused_before_a_run(sections: dict[str, Any], message: str) -> None:
    assert refusal(**sections).startswith(message)


def test_as_many_workers_as_configured_may_be_waited_for() -> None:
    assert resolve(make_config(start={"min_workers": 2})).config.start.min_workers == 2


def test_the_ready_made_smoke_configuration_resolves() -> None:
    resolved = resolve(load_config("smoke"))
    assert resolved.workload_name == "image_classification"
    assert resolved.description.dataset.num_classes == 10
