from __future__ import annotations

import datetime as dt
import time
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from aibench.errors import RunFolderError
from aibench.master import clock
from aibench.master.clock import RunClock, read_anchor


@dataclass
class Machine:
    """Both of its clocks, turned by hand, and its boot."""

    unix_s: float = 1_767_225_600.0
    monotonic_s: float = 1000.0
    boot_id: Path = Path()

    def reboot(self) -> None:
        self.boot_id.write_text("second\n")
        self.monotonic_s = 5.0


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Machine:
    machine = Machine(boot_id=tmp_path / "boot_id")
    machine.boot_id.write_text("first\n")
    monkeypatch.setattr(clock, "_BOOT_ID", machine.boot_id)
    monkeypatch.setattr(time, "time", lambda: machine.unix_s)
    monkeypatch.setattr(time, "monotonic", lambda: machine.monotonic_s)
    return machine


def test_an_anchor_is_one_instant_on_every_clock(machine: Machine) -> None:
    machine.unix_s += 0.25
    anchor = read_anchor()
    assert msgspec.to_builtins(anchor) == {
        "utc": "2026-01-01T00:00:00.250+00:00",
        "unix_s": 1_767_225_600.25,
        "boot_id": "first",
        "monotonic_s": 1000.0,
    }


def test_the_anchor_of_this_machine_is_now() -> None:
    before = dt.datetime.now(dt.UTC) - dt.timedelta(milliseconds=1)
    assert before <= dt.datetime.fromisoformat(read_anchor().utc) <= dt.datetime.now(dt.UTC)


def test_a_run_begins_at_zero_and_follows_the_monotonic_clock(machine: Machine) -> None:
    running = RunClock([(0.0, read_anchor())])
    assert running.now_s() == 0.0
    machine.monotonic_s += 12.5
    assert running.now_s() == 12.5


@pytest.mark.parametrize("step_s", [-43_200.0, 43_200.0])
def test_a_wall_clock_that_is_set_does_not_move_the_run(machine: Machine, step_s: float) -> None:
    running = RunClock([(0.0, read_anchor())])
    machine.unix_s += step_s
    machine.monotonic_s += 3.0
    assert running.now_s() == 3.0


def test_a_run_resumed_on_the_same_boot_goes_on_by_the_monotonic_clock(machine: Machine) -> None:
    origin = read_anchor()
    machine.monotonic_s += 60.0
    machine.unix_s -= 9999.0
    resumed = RunClock([(0.0, origin)], last_s=50.0)
    assert (resumed.source, resumed.now_s()) == ("monotonic", 60.0)


def test_a_run_resumed_on_another_boot_goes_on_by_the_wall_clock(machine: Machine) -> None:
    origin = read_anchor()
    machine.reboot()
    machine.unix_s += 300.0
    resumed = RunClock([(0.0, origin)], last_s=50.0)
    assert (resumed.source, resumed.now_s()) == ("wall", 300.0)
    machine.monotonic_s += 7.0
    machine.unix_s += 5000.0
    assert resumed.now_s() == 307.0


def test_machines_that_know_no_boot_are_placed_by_the_wall_clock(machine: Machine) -> None:
    machine.boot_id.unlink()
    origin = read_anchor()
    assert origin.boot_id == ""
    machine.unix_s += 20.0
    resumed = RunClock([(0.0, origin)])
    assert (resumed.source, resumed.now_s()) == ("wall", 20.0)


def test_a_wall_clock_before_the_last_record_is_refused(machine: Machine) -> None:
    origin = read_anchor()
    machine.reboot()
    machine.unix_s += 300.0
    with pytest.raises(RunFolderError) as refusal:
        RunClock([(0.0, origin)], last_s=420.0)
    assert str(refusal.value) == (
        "the wall clock stands 120 s before the journal's last record: set the clock, then resume"
    )


def test_a_run_may_go_on_at_its_last_record(machine: Machine) -> None:
    origin = read_anchor()
    machine.monotonic_s += 420.0
    assert RunClock([(0.0, origin)], last_s=420.0).now_s() == 420.0
