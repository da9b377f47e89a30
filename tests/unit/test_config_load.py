from pathlib import Path
from typing import Any

import pytest

from aibench.api.events import Division
from aibench.api.space import Domain
from aibench.config import load_config, ready_made
from aibench.errors import ConfigError

BASE = """\
name: mine
division: open
workload: {name: fake}
limits: {trials: 3}
"""


def write(tmp_path: Path, text: str | bytes) -> str:
    path = tmp_path / "config.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


def refusal(source: str, *overrides: str) -> str:
    with pytest.raises(ConfigError) as refused:
        load_config(source, overrides)
    message = str(refused.value)
    assert "\n" not in message
    return message


def test_a_minimal_file_gets_every_default(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, BASE))
    assert (config.name, config.division, config.seed) == ("mine", Division.OPEN, 1)
    assert config.num_workers == 1
    assert config.launcher == {"name": "local"}
    assert config.control.host is None
    assert [config.epochs.epochs(n) for n in (1, 2, 3, 4, 9)] == [15, 30, 45, 60, 60]


def test_the_ready_made_configurations_parse() -> None:
    assert ready_made() == ("cifar10", "imagenet", "smoke")
    assert [load_config(name).division for name in ready_made()] == ["open", "closed", "smoke"]


def test_the_smoke_configuration_has_two_workers_with_three_ranks() -> None:
    config = load_config("smoke")
    assert config.num_workers == 2
    assert sum(group.count * group.ranks for group in config.workers) == 3


@pytest.mark.parametrize(
    ("text", "value"), [("1e-3", 0.001), ("1E3", 1000.0), ("-2.5e+1", -25.0), ("1.e2", 100.0)]
)
def test_exponents_are_numbers_with_and_without_a_point(tmp_path: Path, text: str, value: float) -> None:
    config = load_config(write(tmp_path, BASE + f"search: {{space: {{x: {{low: -100, high: {text}}}}}}}\n"))
    assert config.search.space["x"] == Domain(low=-100, high=value)


def test_words_that_look_like_exponents_stay_words(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, BASE.replace("name: fake", "name: e5, a: 1e, b: 0x1g")))
    assert config.workload == {"name": "e5", "a": "1e", "b": "0x1g"}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "expected a mapping of keys to values, got NoneType"),
        ("- 1\n- 2\n", "expected a mapping of keys to values, got list"),
        ("hello\n", "expected a mapping of keys to values, got str"),
        (b"\x7fELF\x02\x01\x01\xd0\x00", "cannot be read as text"),
        (BASE + "a: \x07\n", "not YAML"),
        (BASE + "seed: 2020-13-45\n", "not a usable YAML value (month must be in 1..12)"),
        (BASE + "seed: !!int many\n", "not a usable YAML value"),
        (BASE + f"seed: {'9' * 5000}\n", "not a usable YAML value"),
        (BASE + "a: " + "[" * 500 + "\n", "not a usable YAML value"),
        (BASE + "a: b: c\n", " line 5, column 5: mapping values are not allowed here"),
        (BASE + "a: [1, 2\n", " line 6, column 1: "),
        (BASE + "a: !python/object:os.system x\n", " line 5, column 4: could not determine a constructor"),
        (BASE + "seed: 2\nseed: 3\n", " line 6, column 1: key 'seed' is given twice"),
        (BASE + "start:\n  timeout_s: 1\n  timeout_s: 2\n", " line 7, column 3: key 'timeout_s' is given"),
        (BASE + "? [a]\n: 3\n", " line 5, column 3: found unhashable key"),
        (BASE + "control: {lease_s: .inf}\n", " line 5, column 20: expected a finite number, got .inf"),
        (BASE + "control: {lease_s: .nan}\n", " line 5, column 20: expected a finite number, got .nan"),
        (BASE + "control: {lease_s: 1e999}\n", " line 5, column 20: expected a finite number, got 1e999"),
    ],
)
def test_a_text_that_is_no_configuration_is_refused_with_its_place(
    tmp_path: Path, text: str | bytes, problem: str
) -> None:
    source = write(tmp_path, text)
    message = refusal(source)
    assert message.startswith(source)
    assert problem in message


def test_a_folder_is_refused(tmp_path: Path) -> None:
    assert refusal(str(tmp_path)).startswith(f"{tmp_path}: cannot be read as text (")


def test_an_unknown_name_suggests_the_nearest_ready_made_one() -> None:
    assert refusal("smok") == (
        "smok: no such configuration; did you mean 'smoke'? "
        "give a YAML file or one of cifar10, imagenet, smoke"
    )


def test_a_missing_file_lists_the_ready_made_configurations() -> None:
    assert refusal("nowhere/at-all.yaml") == (
        "nowhere/at-all.yaml: no such configuration; give a YAML file or one of cifar10, imagenet, smoke"
    )


@pytest.mark.parametrize(
    ("override", "read", "expected"),
    [
        ("limits.measured_time_s=7", lambda c: c.limits.measured_time_s, 7.0),
        ("control.lease_s=1e2", lambda c: c.control.lease_s, 100.0),
        ("workers.1.ranks=4", lambda c: [g.ranks for g in c.workers], [2, 4]),
        ("workers.0={count: 3}", lambda c: c.num_workers, 4),
        ("epochs.warmup=[7, 8]", lambda c: c.epochs.warmup, (7, 8)),
        ("seed=9", lambda c: c.seed, 9),
        ("workload.data_dir=/data/a=b", lambda c: c.workload["data_dir"], "/data/a=b"),
        ("workload.data_dir=", lambda c: c.workload["data_dir"], None),
        ("workload.new.key=yes", lambda c: c.workload["new"], {"key": True}),
        ("search.space.lr={low: 0, high: 1}", lambda c: c.search.space["lr"].high, 1.0),
        ("name='5'", lambda c: c.name, "5"),
    ],
)
def test_set_changes_one_value(override: str, read: Any, expected: object) -> None:
    assert read(load_config("smoke", [override])) == expected


def test_later_overrides_win_and_build_on_earlier_ones() -> None:
    config = load_config("smoke", ["seed=3", "seed=4", "search.space.x.low=1", "search.space.x.high=2"])
    assert config.seed == 4
    assert config.search.space["x"] == Domain(low=1, high=2)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("limits", "--set: 'limits': expected key.path=value"),
        ("=3", "--set: '=3': expected key.path=value"),
        ("control..port=3", "--set: 'control..port=3': expected key.path=value"),
        ("workers.2.ranks=1", "--set workers.2.ranks: '2': expected a number from 0 to 1"),
        ("workers.-1.ranks=1", "--set workers.-1.ranks: '-1': expected a number from 0 to 1"),
        ("workers.first.ranks=1", "--set workers.first.ranks: 'first': expected a number from 0 to 1"),
        ("workers.².ranks=1", "--set workers.².ranks: '²': expected a number from 0 to 1"),
        ("name.a.b=1", "--set name.a.b: 'a' is not below a mapping or a list"),
        ("seed=[", "--set seed line 1, column 2: "),
        ("seed=1e3", "seed: got 1000.0; expected int"),
        ("seed=yes", "seed: got True; expected int"),
        ("seed=", "seed: got None; expected int"),
        ("workers.0.ranks=0", "workers.0.ranks: got 0; expected int >= 1"),
        ("limts.trials=1", "limts: unknown key (did you mean 'limits'?)"),
        ("limits.trails=1", "limits.trails: unknown key (did you mean 'trials'?)"),
    ],
)
def test_a_set_that_does_not_fit_is_refused_with_its_key_path(override: str, message: str) -> None:
    assert refusal("smoke", override).startswith(message)
