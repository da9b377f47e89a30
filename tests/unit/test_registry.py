from importlib.metadata import EntryPoint
from typing import Any

import pytest
from support.fake_workload import FakeWorkload

from aibench import registry
from aibench.errors import ConfigError
from aibench.registry import LAUNCHERS, WORKLOADS, known_names, launcher_type, workload_type
from launchers.local import LocalLauncher


def install(monkeypatch: pytest.MonkeyPatch, group: str, **targets: str) -> None:
    points = [EntryPoint(name=name, value=value, group=group) for name, value in targets.items()]

    def entry_points(**selection: Any) -> list[EntryPoint]:
        return [point for point in points if point.group == selection["group"]]

    monkeypatch.setattr(registry, "entry_points", entry_points)


def test_the_built_in_launcher_is_found_by_name() -> None:
    assert launcher_type("local") is LocalLauncher


def test_the_built_in_workload_is_found_by_name() -> None:
    assert workload_type("image_classification").name == "image_classification"


def test_every_built_in_name_leads_to_a_class_of_that_name() -> None:
    assert {name: launcher_type(name).name for name in known_names(LAUNCHERS)} == {
        name: name for name in known_names(LAUNCHERS)
    }
    assert {name: workload_type(name).name for name in known_names(WORKLOADS)} == {
        name: name for name in known_names(WORKLOADS)
    }


@pytest.mark.parametrize(
    ("find", "message"),
    [
        (launcher_type, "launcher.name: 'locl' is unknown (did you mean 'local'?); known: aaa, "),
        (workload_type, "workload.name: 'locl' is unknown; known: image_classification"),
    ],
)
def test_an_unknown_name_lists_the_known_ones(
    find: Any, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, LAUNCHERS, aaa="support.fake_workload:FakeWorkload")
    with pytest.raises(ConfigError) as refused:
        find("locl")
    assert str(refused.value).startswith(message)
    assert "\n" not in str(refused.value)


def test_an_entry_point_adds_to_the_built_in_names(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, WORKLOADS, fake="support.fake_workload:FakeWorkload")
    assert workload_type("fake") is FakeWorkload
    assert workload_type("image_classification").name == "image_classification"
    assert "fake" not in known_names(LAUNCHERS)


def test_an_entry_point_that_takes_a_built_in_name_is_refused_naming_both(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    install(monkeypatch, LAUNCHERS, local="elsewhere:Thing")
    with pytest.raises(ConfigError) as refused:
        launcher_type("local")
    assert str(refused.value) == (
        "aibench.launchers 'local' is claimed by both launchers.local:LocalLauncher and elsewhere:Thing"
    )


def test_an_entry_point_that_repeats_a_built_in_target_is_no_clash(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, LAUNCHERS, local="launchers.local:LocalLauncher")
    assert launcher_type("local") is LocalLauncher


@pytest.mark.parametrize("target", ["no_such_module_anywhere:Thing", "support.fake_workload:NoSuchClass"])
def test_a_plugin_that_cannot_be_loaded_is_named_with_the_reason(
    target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, WORKLOADS, broken=target)
    with pytest.raises(ConfigError) as refused:
        workload_type("broken")
    assert str(refused.value).startswith(f"workload.name: 'broken' ({target}) cannot be loaded (")
    assert target.split(":")[0 if "no_such" in target else 1] in str(refused.value)
