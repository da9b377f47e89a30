from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest
from support.fake_workload import FakeOptions, FakeWorkload, make_config

from aibench.api.features import Experience, ExperienceTable, NetworkFeatures
from aibench.api.space import Domain
from aibench.api.workload import HyperParameters
from aibench.config import ResolvedRun, RunConfig, guided, resolve
from aibench.config.validate import to_section
from aibench.counting import count
from aibench.errors import ConfigError

RATES = (0.02, 0.03, 0.05, 0.1, 0.2, 0.4, 0.6, 0.9)


class TaughtWorkload(FakeWorkload):
    """Two kinds of data sets: low rates are good where ``kind`` is 0, high ones where it is 1."""

    def features(self) -> Mapping[str, float]:
        return {"kind": 1.0}

    def experience(self) -> ExperienceTable | None:
        points: tuple[HyperParameters, ...] = tuple(
            {"learning_rate": rate, "momentum": (0.5, 0.9)[rate > 0.3]} for rate in RATES
        )
        experiences = [
            Experience(
                name=f"known-{index}",
                features={"kind": float(index % 2), "steps": 0.0},
                errors=tuple(abs(rate - (0.02, 0.9)[index % 2]) for rate in RATES),
            )
            for index in range(10)
        ]
        return ExperienceTable(origin={}, points=points, experiences=tuple(experiences))


@pytest.fixture(autouse=True)
def _taught_workload(monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = {"fake": FakeWorkload, "taught": TaughtWorkload}
    monkeypatch.setattr(importlib.import_module("aibench.config.resolve"), "workload_type", kinds.__getitem__)
    monkeypatch.setattr(
        guided, "measure_network", lambda *_: NetworkFeatures(features={}, absent="framework")
    )


def resolved(workload: str = "taught", **search: Any) -> ResolvedRun:
    return resolve(make_config(workload={"name": workload}, search={"feature_guided": True, **search}))


def test_first_points_and_a_narrower_space_become_configuration() -> None:
    run = resolved()
    search = run.config.search
    assert search.first_points[0] == {"learning_rate": 0.9, "momentum": 0.9}
    assert run.space["momentum"] == Domain(choices=(0.9,))
    assert run.space["learning_rate"].low == pytest.approx(0.3785, rel=1e-3)
    assert run.space == search.space
    assert search.guidance is not None
    assert search.guidance.features == {"kind": 1.0}
    assert search.guidance.missing == ("steps",)
    assert search.guidance.neighbours == ("known-1", "known-3", "known-5", "known-7")


def test_the_document_holds_them_and_leads_to_the_same_run_without_choosing_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = resolved()
    document = json.loads(msgspec.json.encode(first.document))
    assert document["search"]["first_points"][0] == {"learning_rate": 0.9, "momentum": 0.9}
    assert document["search"]["space"]["momentum"] == {"choices": [0.9]}
    assert document["search"]["guidance"]["selected"]["kind"] == pytest.approx(1.0)
    monkeypatch.setattr(TaughtWorkload, "features", None)
    monkeypatch.setattr(TaughtWorkload, "experience", None)
    again = resolve(to_section(document, RunConfig))
    assert again.document == first.document
    assert again.config.search == first.config.search


def test_without_guidance_nothing_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TaughtWorkload, "features", None)
    run = resolved(feature_guided=False)
    assert run.config.search.first_points == ()
    assert run.config.search.guidance is None
    assert run.space["momentum"] == Domain(choices=(0.5, 0.9))


def test_the_users_own_points_and_space_come_first() -> None:
    own = {"learning_rate": 0.05, "momentum": 0.5}
    space = {"learning_rate": {"low": 0.04, "high": 0.5, "log": True}}
    run = resolved(first_points=[own], space=space)
    assert run.config.search.first_points[0] == own
    assert len(run.config.search.first_points) > 1
    assert run.space["momentum"] == Domain(choices=(0.5, 0.9))
    assert run.space["learning_rate"] == Domain(low=0.04, high=0.5, log=True)
    assert all(0.04 <= float(point["learning_rate"]) <= 0.5 for point in run.config.search.first_points)


def test_points_that_take_too_much_memory_are_not_chosen() -> None:
    # High rates are better here, but were tried with the momentum that takes two bytes per parameter.
    num_parameters = count(FakeWorkload(FakeOptions()).initial_architecture()).parameters
    run = resolved(max_memory_gib=1.5 * num_parameters / 2**30)
    points = run.config.search.first_points
    assert points[0] == {"learning_rate": 0.2, "momentum": 0.5}
    assert {point["momentum"] for point in points} == {0.5}


@pytest.mark.parametrize(
    ("workload", "search", "problem"),
    [
        (
            "fake",
            {},
            "got true; the workload has no experience with such data to be guided by; expected false",
        ),
        (
            "taught",
            {"space": {"learning_rate": {"low": 2.0, "high": 3.0}}},
            "got true; no recorded point lies in search.space and within search.max_memory_gib, expected "
            "more room or false",
        ),
    ],
)
def test_what_cannot_be_guided_is_refused(workload: str, search: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError) as refused:
        resolved(workload, **search)
    assert str(refused.value) == f"search.feature_guided: {problem}"
