from typing import Annotated, Any, Literal

import msgspec
import pytest
from support.fake_workload import make_config

from aibench.config import RunConfig
from aibench.config.validate import to_section
from aibench.errors import ConfigError

BASE: dict[str, Any] = {
    "name": "mine",
    "division": "open",
    "workload": {"name": "fake"},
    "limits": {"trials": 3},
}


def refusal(section: type[msgspec.Struct], data: object, path: str = "") -> str:
    with pytest.raises(ConfigError) as refused:
        to_section(data, section, path=path)
    message = str(refused.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        # Unknown keys, on every level.
        ({"limts": {}}, "limts: unknown key (did you mean 'limits'?)"),
        ({"control": {"prot": 1}}, "control.prot: unknown key (did you mean 'port'?)"),
        ({"workers": [{}, {"rank": 2}]}, "workers.1.rank: unknown key (did you mean 'ranks'?)"),
        (
            {"start": {"zzz": 1}},
            "start.zzz: unknown key (known: min_workers, timeout_s)",
        ),
        (
            {"search": {"space": {"ok": {"low": 0, "high": 1}, "lr": {"lo": 1, "high": 2}}}},
            "search.space.lr.lo: unknown key (did you mean 'low'?)",
        ),
        ({"a\nb": 1}, "'a\\nb': unknown key (known: name, "),
        ({7: 1}, "got the key 7; expected a string as key"),
        ({"search": {"space": {7: {}}}}, "search.space: got the key 7; expected a string as key"),
        # Wrong types.
        ({"seed": "3"}, "seed: got '3'; expected int"),
        ({"seed": True}, "seed: got True; expected int"),
        ({"seed": 1.5}, "seed: got 1.5; expected int"),
        ({"name": 5}, "name: got 5; expected str"),
        ({"name": "a b"}, "name: got 'a b'; expected str matching regex"),
        ({"name": "../up"}, "name: got '../up'; expected str matching regex"),
        ({"limits": 3}, "limits: got 3; expected mapping"),
        ({"limits": [1]}, "limits: got a list; expected mapping"),
        ({"limits": None}, "limits: got None; expected mapping"),
        ({"workers": {"count": 1}}, "workers: got a mapping; expected list"),
        ({"workers": ["a"]}, "workers.0: got 'a'; expected mapping"),
        ({"launcher": "local"}, "launcher: got 'local'; expected mapping"),
        ({"epochs": {"warmup": [1, "x"]}}, "epochs.warmup.1: got 'x'; expected int"),
        ({"search": {"space": {"lr": 3}}}, "search.space.lr: got 3; expected mapping or null"),
        ({"search": {"space": {"lr": {"low": "a"}}}}, "search.space.lr.low: got 'a'; expected float or null"),
        # Values out of range.
        ({"seed": -1}, "seed: got -1; expected int >= 0"),
        ({"workers": []}, "workers: got []; expected list of length >= 1"),
        ({"workers": [{"count": 0}]}, "workers.0.count: got 0; expected int >= 1"),
        ({"workers": [{"ranks": -2}]}, "workers.0.ranks: got -2; expected int >= 1"),
        ({"workers": [{"device": ""}]}, "workers.0.device: got ''; expected str of length >= 1"),
        ({"limits": {"trials": 0}}, "limits.trials: got 0; expected int >= 1"),
        ({"limits": {"measured_time_s": 0}}, "limits.measured_time_s: got 0; expected float > 0.0"),
        ({"limits": {"measured_time_s": -1.5}}, "limits.measured_time_s: got -1.5; expected float > 0.0"),
        ({"start": {"min_workers": 0}}, "start.min_workers: got 0; expected int >= 1"),
        ({"start": {"timeout_s": 0}}, "start.timeout_s: got 0; expected float > 0.0"),
        ({"epochs": {"full": 0}}, "epochs.full: got 0; expected int >= 1"),
        ({"epochs": {"warmup": [1, 0]}}, "epochs.warmup.1: got 0; expected int >= 1"),
        ({"control": {"port": 65536}}, "control.port: got 65536; expected int <= 65535"),
        ({"control": {"heartbeat_s": 0}}, "control.heartbeat_s: got 0; expected float > 0.0"),
        ({"search": {"max_ops_ratio": 1}}, "search.max_ops_ratio: got 1; expected float > 1.0"),
        # Words that are none of the known ones.
        (
            {"division": "closd"},
            "division: got 'closd'; expected one of closed, open, smoke (did you mean 'c",
        ),
        ({"division": "any"}, "division: got 'any'; expected one of closed, open, smoke"),
        (
            {"search": {"architecture": "rnd"}},
            "search.architecture: got 'rnd'; expected one of evolution, network_morphism, none, random",
        ),
        # Values that contradict each other.
        ({"limits": {}}, "limits: give measured_time_s, trials or both: a run must end"),
        (
            {"control": {"heartbeat_s": 5, "lease_s": 14.9}},
            "control: lease_s 14.9 must be at least three times heartbeat_s 5",
        ),
        (
            {"search": {"space": {"lr": {"low": 2, "high": 1}}}},
            "search.space.lr: low 2 is above high 1",
        ),
        (
            {"search": {"space": {"lr": {"low": 1}}}},
            "search.space.lr: give either choices or both low and high",
        ),
        (
            {"search": {"space": {"lr": {"low": 1, "high": 2, "choices": [1]}}}},
            "search.space.lr: give either choices or low and high, not both",
        ),
        (
            {"search": {"space": {"lr": {"low": 0, "high": 2, "log": True}}}},
            "search.space.lr: low 0 must be above 0 with log: true",
        ),
        (
            {"search": {"space": {"a.b c": {"choices": []}}}},
            "search.space.a.b c: choices is empty, expected at least one value",
        ),
    ],
)
def test_a_mistake_names_key_path_value_and_what_was_expected(changes: dict[Any, Any], message: str) -> None:
    found = refusal(RunConfig, {**BASE, **changes})
    assert found.startswith(message)


@pytest.mark.parametrize("key", sorted(BASE))
def test_a_missing_key_is_named(key: str) -> None:
    document = {name: value for name, value in BASE.items() if name != key}
    assert refusal(RunConfig, document) == f"{key}: missing, it has no default"


@pytest.mark.parametrize(
    ("num_workers", "control", "expected_s"),
    [
        (64, {}, 5.0),
        (1000, {}, 5.0),
        (2000, {}, 10.0),
        (8000, {}, 20.0),
        (8000, {"lease_s": 300}, 40.0),
        (8000, {"heartbeat_s": 50, "lease_s": 150}, 50.0),
    ],
)
def test_many_workers_are_heard_less_often_but_thrice_in_a_lease(
    num_workers: int, control: dict[str, Any], expected_s: float
) -> None:
    config = make_config(workers=[{"count": num_workers}], control=control)
    assert config.heartbeat_s == expected_s


def test_both_limits_may_be_given_and_a_lease_of_three_heartbeats_is_enough() -> None:
    config = to_section(
        {
            **BASE,
            "limits": {"trials": 1, "measured_time_s": 2},
            "control": {"heartbeat_s": 5, "lease_s": 15},
        },
        RunConfig,
    )
    assert (config.limits.trials, config.limits.measured_time_s) == (1, 2.0)
    assert config.control.lease_s == 15.0


class Inner(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    size: Annotated[int, msgspec.Meta(ge=1)]
    mode: Literal["fast", "slow"] | None = None


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    environment: dict[str, str] = {}
    limits: dict[str, Annotated[int, msgspec.Meta(ge=1)]] = {}
    labels: dict[str, str] = {}
    inner: Inner | None = None
    items: list[Inner] = []
    by_name: dict[str, dict[str, Inner]] = {}
    pair: tuple[int, Inner] | None = None


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"enviroment": {}}, "launcher.enviroment: unknown key (did you mean 'environment'?)"),
        ({"environment": {"A": "1", "B": 3}}, "launcher.environment.B: got 3; expected str"),
        ({"limits": {"a": 1, "b": 0, "c": -1}}, "launcher.limits.b: got 0; expected int >= 1"),
        (
            {"limits": {"a": 1, "b": 0}, "labels": {"x": 1}, "inner": {}},
            "launcher.limits.b: got 0; expected int >= 1",
        ),
        ({"inner": {}}, "launcher.inner.size: missing, it has no default"),
        ({"inner": {"size": 1, "mod": 1}}, "launcher.inner.mod: unknown key (did you mean 'mode'?)"),
        (
            {"inner": {"size": 1, "mode": "fats"}},
            "launcher.inner.mode: got 'fats'; expected one of fast, slow (did you mean 'fast'?)",
        ),
        ({"items": [{"size": 1}, {"siz": 1}]}, "launcher.items.1.siz: unknown key (did you mean 'size'?)"),
        ({"items": [{"size": 1}, {}]}, "launcher.items.1.size: missing, it has no default"),
        (
            {"by_name": {"a": {"x": {"size": 1}}, "b": {"x": {"size": 1}, "y": {"size": 0}}}},
            "launcher.by_name.b.y.size: got 0; expected int >= 1",
        ),
        ({"pair": [1, {"siz": 1}]}, "launcher.pair.1.siz: unknown key (did you mean 'size'?)"),
        ([], "launcher: got []; expected mapping"),
    ],
)
def test_sections_of_plugins_are_explained_as_well(data: object, message: str) -> None:
    assert refusal(Options, data, "launcher") == message
