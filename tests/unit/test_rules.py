from __future__ import annotations

import dataclasses
from typing import Any

import msgspec
import pytest
from support.runs import DATASET, TINY, WORKLOAD, RunBuilder, times

from aibench.api.events import Device, Division, Outcome, WorkerJoined
from aibench.architecture import Dense, Flatten, Input
from aibench.architecture.graph import ArchitectureDocument
from aibench.score.history import RunHistory
from aibench.score.rules import Facts, Finding, Verdict, check, facts_of, verdict
from aibench.score.score import compute_score
from aibench.score.shares import worker_shares

EVERYWHERE = ["rules-version", "sealed", "work-done", "operations", "images", "time-books"]
CLOSED_ONLY = [
    "measured-time",
    "precision",
    "accuracy",
    "reference-setting",
    "search",
    "whole-trials",
    "one-clock",
]
UNKNOWN = "known when the run has ended"


def make_facts(division: Division = Division.CLOSED, **changes: Any) -> Facts:
    """A run that every rule passes."""
    facts = Facts(
        division=division,
        rules_version="aiperf-v1",
        precision="bf16",
        departures=(),
        is_synthetic=False,
        search_enabled=True,
        measured_time_s=3600.0,
        best_error=0.25,
        num_epochs=1,
        is_sealed=True,
        miscounted_trials=(),
        trials_with_odd_images=(),
        overbooked_share=0.0,
    )
    return dataclasses.replace(facts, **changes)


def finding(rule: str, division: Division = Division.CLOSED, **changes: Any) -> Finding:
    (found,) = [f for f in check(make_facts(division, **changes)) if f.rule == rule]
    return found


def verdict_of(facts: Facts) -> Verdict:
    return verdict(facts, check(facts))


@pytest.mark.parametrize(
    ("division", "expected"),
    [
        (Division.CLOSED, [*EVERYWHERE, "real-data", *CLOSED_ONLY]),
        (Division.OPEN, [*EVERYWHERE, "real-data"]),
        (Division.SMOKE, [*EVERYWHERE, "smoke-error"]),
    ],
)
def test_every_division_has_its_rules(division: Division, expected: list[str]) -> None:
    findings = check(make_facts(division))
    assert [found.rule for found in findings] == expected
    assert {found.passed for found in findings} == {True}


@pytest.mark.parametrize("division", list(Division))
def test_a_run_that_passes_every_rule_is_what_it_asked_to_be(division: Division) -> None:
    assert verdict_of(make_facts(division)).value == division.value


@pytest.mark.parametrize("division", list(Division))
@pytest.mark.parametrize(
    ("rule", "changes", "actual"),
    [
        ("rules-version", {"rules_version": "aiperf-v0"}, "aiperf-v0"),
        ("sealed", {"is_sealed": False}, "not sealed"),
        ("work-done", {"num_epochs": 0}, "0"),
        ("operations", {"miscounted_trials": (3, 17)}, "not so in trials 3, 17"),
        (
            "operations",
            {"miscounted_trials": tuple(range(1, 13))},
            "not so in trials 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 and 2 more",
        ),
        ("time-books", {"overbooked_share": 0.0101}, "1.01 % more"),
    ],
)
def test_these_rules_make_any_run_invalid(
    division: Division, rule: str, changes: dict[str, Any], actual: str
) -> None:
    broken = finding(rule, division, **changes)
    assert (broken.passed, broken.actual) == (False, actual)
    assert broken.mend
    assert verdict_of(make_facts(division, **changes)) is Verdict.INVALID


@pytest.mark.parametrize(
    ("rule", "changes", "actual", "expected"),
    [
        (
            "measured-time",
            {"measured_time_s": 3599.4},
            "3599 s",
            "at least 3600 s from the first trial's start to the last finished epoch",
        ),
        ("precision", {"precision": "fp8"}, "fp8", "one of fp32, bf16, fp16"),
        ("accuracy", {"best_error": 0.3}, "30.00 %", "best error under 30 %"),
        (
            "reference-setting",
            {"departures": ("8 classes", "no flips")},
            "8 classes; no flips",
            "the workload's own data, network and preprocessing",
        ),
        ("search", {"search_enabled": False}, "disabled", "architecture search enabled"),
        (
            "whole-trials",
            {"search_departures": ("weights are inherited",)},
            "weights are inherited",
            "every trial trains from scratch to its last epoch",
        ),
    ],
)
def test_these_rules_belong_to_the_closed_division(
    rule: str, changes: dict[str, Any], actual: str, expected: str
) -> None:
    broken = finding(rule, **changes)
    assert (broken.passed, broken.actual, broken.expected) == (False, actual, expected)
    assert broken.mend
    assert verdict_of(make_facts(**changes)) is Verdict.INVALID
    assert verdict_of(make_facts(Division.OPEN, **changes)) is Verdict.OPEN


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_precisions_down_to_16_bits_are_allowed(precision: str) -> None:
    assert finding("precision", precision=precision).passed


@pytest.mark.parametrize("precision", ["fp8", "int8", "FP16", ""])
def test_no_other_precision_is(precision: str) -> None:
    assert finding("precision", precision=precision).passed is False


def test_seventy_percent_must_be_exceeded() -> None:
    assert finding("accuracy", best_error=0.3).passed is False
    assert finding("accuracy", best_error=0.2999).passed is True


def test_an_hour_is_enough() -> None:
    assert finding("measured-time", measured_time_s=3600.0).passed is True


def test_books_may_be_off_by_one_percent() -> None:
    assert finding("time-books", overbooked_share=0.01).passed is True


@pytest.mark.parametrize("division", [Division.CLOSED, Division.OPEN])
def test_synthetic_data_is_for_smoke_runs(division: Division) -> None:
    broken = finding("real-data", division, is_synthetic=True)
    assert (broken.passed, broken.actual) == (False, "synthetic")
    assert verdict_of(make_facts(division, is_synthetic=True)) is Verdict.INVALID
    assert verdict_of(make_facts(Division.SMOKE, is_synthetic=True)) is Verdict.SMOKE


def test_a_smoke_run_must_learn_something() -> None:
    assert finding("smoke-error", Division.SMOKE, best_error=0.3).passed is False
    assert verdict_of(make_facts(Division.SMOKE, best_error=0.3)) is Verdict.INVALID
    assert verdict_of(make_facts(Division.OPEN, best_error=0.9)) is Verdict.OPEN


@pytest.mark.parametrize(
    ("rule", "fact"),
    [
        ("sealed", "is_sealed"),
        ("work-done", "num_epochs"),
        ("operations", "miscounted_trials"),
        ("images", "trials_with_odd_images"),
        ("time-books", "overbooked_share"),
        ("measured-time", "measured_time_s"),
        ("accuracy", "best_error"),
    ],
)
def test_what_is_not_known_yet_is_left_open(rule: str, fact: str) -> None:
    unknown: dict[str, Any] = {fact: None}
    undecided = finding(rule, **unknown)
    assert (undecided.passed, undecided.actual) == (None, UNKNOWN)
    assert verdict_of(make_facts(**unknown)) is Verdict.UNDECIDED


def test_a_smoke_runs_error_may_be_open() -> None:
    assert finding("smoke-error", Division.SMOKE, best_error=None).passed is None
    assert verdict_of(make_facts(Division.SMOKE, best_error=None)) is Verdict.UNDECIDED


def test_one_broken_rule_outweighs_open_ones() -> None:
    assert verdict_of(make_facts(best_error=None, num_epochs=None, precision="fp8")) is Verdict.INVALID


def test_one_open_rule_outweighs_passed_ones() -> None:
    assert verdict_of(make_facts(best_error=None)) is Verdict.UNDECIDED


# Facts of a run ---------------------------------------------------------------------------------------


def facts_from(builder: RunBuilder) -> Facts:
    history = RunHistory.of(builder.records)
    parts = worker_shares(history)
    return facts_of(history, compute_score(history), parts)


def begun(**changes: Any) -> RunBuilder:
    return RunBuilder().start(Division.CLOSED, **changes).join("w0").barrier()


def test_a_runs_records_show_its_facts() -> None:
    workload = msgspec.structs.replace(
        WORKLOAD,
        precision="fp16",
        departures=("half the classes",),
        dataset=msgspec.structs.replace(DATASET, is_synthetic=True),
    )
    builder = begun(workload=workload, search_enabled=False, search_departures=("stops",))
    builder.claim(epochs=2, t_s=10.0)
    builder.epoch(correct=60, ranks=[times(45.0)], t_s=60.0)
    builder.epoch(correct=75, ranks=[times(65.0)], t_s=110.0).close()
    assert facts_from(builder) == Facts(
        division=Division.CLOSED,
        rules_version="aiperf-v1",
        precision="fp16",
        departures=("half the classes",),
        is_synthetic=True,
        search_enabled=False,
        search_departures=("stops",),
        measured_time_s=100.0,
        best_error=0.25,
        num_epochs=2,
        is_sealed=False,
        miscounted_trials=(),
        trials_with_odd_images=(),
        overbooked_share=10 / 110,
    )
    builder.end(t_s=200.0)
    assert facts_from(builder).is_sealed is True


def test_a_worker_on_simulated_devices_makes_any_data_synthetic() -> None:
    device = Device(kind="simulated", name="simulated", memory_bytes=None)
    joined = WorkerJoined(worker="w9", incarnation="a", host="node", backend="simulated", devices=(device,))
    builder = begun()
    assert not facts_from(builder).is_synthetic
    assert facts_from(builder.add(joined)).is_synthetic


def test_a_run_without_an_epoch_has_done_nothing() -> None:
    facts = facts_from(begun().claim().close(1, Outcome.FAILED))
    assert (facts.measured_time_s, facts.best_error, facts.num_epochs) == (0.0, 1.0, 0)
    assert facts.overbooked_share == 0.0


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"train_ops": 94}, id="training"),
        pytest.param({"evaluation_ops": 42}, id="evaluation"),
        pytest.param({"parameters": 11}, id="parameters"),
        pytest.param({"architecture_hash": "0" * 64}, id="hash"),
    ],
)
def test_a_recount_finds_what_was_edited(changes: dict[str, Any]) -> None:
    builder = begun().claim(**changes).claim(train_ops=93, evaluation_ops=41, parameters=10)
    assert facts_from(builder.claim(**changes)).miscounted_trials == (1, 3)


def test_a_recount_finds_another_network_under_the_same_figures() -> None:
    wider = (Input(channels=1, height=2, width=2), Flatten(inputs=(0,)), Dense(inputs=(1,), features=3))
    builder = begun().claim()
    (*before, claimed) = builder.records
    event: Any = claimed.event
    spec = msgspec.structs.replace(event.spec, architecture=ArchitectureDocument(nodes=wider))
    edited = RunBuilder()
    for record in before:
        edited.add(record.event, t_s=record.t_s)
    edited.add(msgspec.structs.replace(event, spec=spec))
    assert event.architecture_hash == TINY.content_hash
    assert facts_from(edited).miscounted_trials == (1,)
