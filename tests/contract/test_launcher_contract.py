"""What every launcher must do, whatever it places workers with.

A row of `LAUNCHERS` makes a launcher whose workers run a given Python program instead of aibench's own, with
the control file, the worker's name and the log folder as arguments.
"""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from support.waiting import eventually

from aibench import registry
from aibench.api.launcher import Command, Launcher, WorkerSpec, WorkerState
from aibench.errors import LauncherError
from aibench.registry import LAUNCHERS as LAUNCHER_GROUP
from launchers.local import LocalLauncher, LocalOptions

NOTE_PID = """
import os, pathlib, subprocess, sys, time
folder = pathlib.Path(sys.argv[3])
def note():
    with (folder / "pids").open("a") as pids:
        pids.write(f"{os.getpid()}\\n")
"""
SERVE = NOTE_PID + "note()\ntime.sleep(1000)\n"
WITH_DESCENDANTS = (
    NOTE_PID
    + """
generation = int(os.environ.get("GENERATION", "0"))
if generation < 2:
    for _ in range(2):
        program = open("/proc/self/cmdline").read().split("\\0")[2]
        subprocess.Popen([sys.executable, "-c", program, *sys.argv[1:]],
                         env={**os.environ, "GENERATION": str(generation + 1)},
                         start_new_session=True)
note()
time.sleep(1000)
"""
)
ECHO = NOTE_PID + '(folder / "seen").write_text(repr(sys.argv[1:]))\nnote()\ntime.sleep(1000)\n'


def exits(status: int) -> str:
    return NOTE_PID + f"note()\nsys.exit({status})\n"


class Local(LocalLauncher):
    program = ""

    def render(self, worker: WorkerSpec) -> Command:
        arguments = (str(worker.control_file), worker.worker, str(worker.log_dir))
        environment = super().render(worker).environment
        return Command(argv=(sys.executable, "-c", self.program, *arguments), environment=environment)


def make_local(program: str) -> Launcher:
    launcher = Local(LocalOptions())
    launcher.program = program
    return launcher


LAUNCHERS: dict[str, Callable[[str], Launcher]] = {"local": make_local}


class Stage:
    """One folder with its workers, and every launcher made for them, stopped at the end."""

    def __init__(self, make: Callable[[str], Launcher], folder: Path) -> None:
        self._make = make
        self._folder = folder
        self._launchers: list[Launcher] = []

    def launcher(self, program: str) -> Launcher:
        self._launchers.append(self._make(program))
        return self._launchers[-1]

    def worker(self, name: str = "w0", num_ranks: int = 1, **changes: bool) -> WorkerSpec:
        return WorkerSpec(
            worker=name,
            num_ranks=num_ranks,
            device="cpu",
            oversubscribe=changes.get("oversubscribe", True),
            control_file=self._folder / "control.json",
            log_dir=self._folder / "workers" / name,
        )

    def pids(self, name: str = "w0") -> list[int]:
        notes = self._folder / "workers" / name / "pids"
        return [int(line) for line in notes.read_text().splitlines()] if notes.exists() else []

    def close(self) -> None:
        for launcher in self._launchers:
            launcher.stop(list(launcher.states()))


@pytest.fixture(params=sorted(LAUNCHERS))
def stage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stage]:
    made = Stage(LAUNCHERS[request.param], tmp_path)
    yield made
    made.close()


def is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def state(launcher: Launcher, name: str = "w0") -> WorkerState:
    return launcher.states()[name].state


def test_every_built_in_launcher_passes_this_suite() -> None:
    assert set(LAUNCHERS) == set(registry._BUILTIN[LAUNCHER_GROUP])


def test_a_launcher_that_started_nothing_knows_no_worker(stage: Stage) -> None:
    launcher = stage.launcher(SERVE)
    assert launcher.states() == {}
    launcher.stop([])
    launcher.stop(["w0", "nobody"])


def test_rendering_starts_nothing_and_leaves_nothing(stage: Stage, tmp_path: Path) -> None:
    launcher = stage.launcher(SERVE)
    assert launcher.render(stage.worker()) == launcher.render(stage.worker())
    assert launcher.states() == {}
    assert list(tmp_path.iterdir()) == []


def test_started_workers_run_until_they_are_stopped(stage: Stage) -> None:
    launcher = stage.launcher(SERVE)
    for name in ("w0", "w1"):
        launcher.start(stage.worker(name))
    eventually(lambda: bool(stage.pids("w0") and stage.pids("w1")))
    assert {name: status.state for name, status in launcher.states().items()} == {
        "w0": WorkerState.RUNNING,
        "w1": WorkerState.RUNNING,
    }
    launcher.stop(["w0"])
    assert not is_alive(stage.pids("w0")[0])
    assert is_alive(stage.pids("w1")[0])
    assert state(launcher, "w1") is WorkerState.RUNNING
    launcher.stop(["w0", "w1"])
    assert not is_alive(stage.pids("w1")[0])


@pytest.mark.parametrize(("status", "expected"), [(0, WorkerState.EXITED), (3, WorkerState.FAILED)])
def test_a_worker_that_ends_is_seen_with_how_it_ended(
    stage: Stage, status: int, expected: WorkerState
) -> None:
    launcher = stage.launcher(exits(status))
    launcher.start(stage.worker())
    eventually(lambda: launcher.states()["w0"].state.is_terminal)
    found = launcher.states()["w0"]
    assert found.state is expected
    assert str(status) in found.detail
    assert launcher.states()["w0"] == found, "the end stays known"


def test_a_worker_that_was_killed_is_noticed_and_can_be_started_again(stage: Stage) -> None:
    launcher = stage.launcher(SERVE)
    launcher.start(stage.worker())
    eventually(lambda: len(stage.pids()) == 1)
    psutil.Process(stage.pids()[0]).kill()
    eventually(lambda: state(launcher) is WorkerState.FAILED)
    launcher.start(stage.worker())
    eventually(lambda: len(stage.pids()) == 2)
    assert state(launcher) is WorkerState.RUNNING
    launcher.stop(["w0"])
    assert not is_alive(stage.pids()[1])


def test_stopping_leaves_no_descendant_wherever_it_hides(stage: Stage) -> None:
    launcher = stage.launcher(WITH_DESCENDANTS)
    launcher.start(stage.worker())
    eventually(lambda: len(stage.pids()) == 7)
    assert all(map(is_alive, stage.pids()))
    launcher.stop(["w0"])
    assert [pid for pid in stage.pids() if is_alive(pid)] == []


def test_stopping_what_has_ended_is_no_error(stage: Stage) -> None:
    launcher = stage.launcher(exits(1))
    launcher.start(stage.worker())
    eventually(lambda: launcher.states()["w0"].state.is_terminal)
    launcher.stop(["w0"])
    launcher.stop(["w0"])


def test_a_new_launcher_adopts_a_living_worker_instead_of_starting_another(stage: Stage) -> None:
    first = stage.launcher(SERVE)
    first.start(stage.worker())
    eventually(lambda: len(stage.pids()) == 1)
    second = stage.launcher(SERVE)
    second.start(stage.worker())
    assert state(second) is WorkerState.RUNNING
    assert len(stage.pids()) == 1
    second.stop(["w0"])
    assert not is_alive(stage.pids()[0])
    eventually(lambda: first.states()["w0"].state.is_terminal)
    assert len(stage.pids()) == 1


def test_the_death_of_an_adopted_worker_is_noticed_and_a_new_one_started(stage: Stage) -> None:
    first, second = stage.launcher(SERVE), stage.launcher(SERVE)
    first.start(stage.worker())
    eventually(lambda: len(stage.pids()) == 1)
    second.start(stage.worker())
    psutil.Process(stage.pids()[0]).kill()
    eventually(lambda: state(second) is WorkerState.FAILED)
    second.start(stage.worker())
    eventually(lambda: len(stage.pids()) == 2)
    assert state(second) is WorkerState.RUNNING


def test_a_new_launcher_does_not_adopt_a_dead_worker(stage: Stage) -> None:
    first, second = stage.launcher(SERVE), stage.launcher(SERVE)
    first.start(stage.worker())
    eventually(lambda: len(stage.pids()) == 1)
    first.stop(["w0"])
    second.start(stage.worker())
    eventually(lambda: len(stage.pids()) == 2)


def test_more_ranks_than_devices_are_refused_in_one_line(stage: Stage) -> None:
    launcher = stage.launcher(SERVE)
    with pytest.raises(LauncherError) as refused:
        launcher.check([stage.worker(num_ranks=1_000_000, oversubscribe=False)])
    assert "1000000 ranks" in str(refused.value)
    assert "\n" not in str(refused.value)
    assert launcher.states() == {}


@pytest.mark.parametrize(
    "folder", ["with space", 'it\'s "quoted"', "semi;colon && $HOME `id`", "new\nline", "-dash", "ünïcode *?"]
)
def test_awkward_paths_reach_the_worker_as_they_are(stage: Stage, tmp_path: Path, folder: str) -> None:
    launcher = stage.launcher(ECHO)
    plain = stage.worker()
    root = tmp_path / folder
    worker = WorkerSpec(
        worker=plain.worker,
        num_ranks=1,
        device="cpu",
        oversubscribe=True,
        control_file=root / "control.json",
        log_dir=root / "workers" / "w0",
    )
    launcher.start(worker)
    seen = worker.log_dir / "seen"
    eventually(lambda: seen.exists() and seen.read_text() != "")
    assert seen.read_text() == repr([str(root / "control.json"), "w0", str(worker.log_dir)])
    launcher.stop(["w0"])


def test_the_output_of_a_worker_is_kept_over_restarts_in_its_log_folder(stage: Stage, tmp_path: Path) -> None:
    program = NOTE_PID + "print('out', os.getpid()); print('err', file=sys.stderr); note()\n"
    launcher = stage.launcher(program)
    for number in (1, 2):
        launcher.start(stage.worker())
        eventually(lambda: len(stage.pids()) == number)  # noqa: B023
        eventually(lambda: launcher.states()["w0"].state.is_terminal)
    text = "".join(
        path.read_text() for path in (tmp_path / "workers" / "w0").iterdir() if path.name.startswith("output")
    )
    assert all(f"out {pid}" in text for pid in stage.pids())
    assert text.count("err") == 2


def test_workers_are_out_of_reach_of_a_signal_to_the_masters_group(stage: Stage) -> None:
    launcher = stage.launcher(SERVE)
    launcher.start(stage.worker())
    eventually(lambda: len(stage.pids()) == 1)
    assert os.getpgid(stage.pids()[0]) != os.getpgid(0)
