"""What every launcher must do, whatever it places workers with: subclass `LauncherContract` in a test module.

Workers of the suite run small Python programs instead of aibench's own. They tell that they live by growing
files in a folder that the test and the workers share under one path, so that the suite needs nothing of an
engine but what `Launcher` promises.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import pytest

from aibench.api.launcher import Launcher, WorkerSpec, WorkerState, WorkerStatus
from aibench.errors import LauncherError

BEAT_S = 0.1
SILENCE_S = 2.0
"""Without a beat for so long, a life is over, even on a busy machine."""
TOKEN = "the-secret-token"
TOO_MANY_RANKS = 1_000_000

_LIVE = """
import os, pathlib, subprocess, sys, threading, time, uuid
folder = pathlib.Path({folder!r})
life = folder / "lives" / ({worker!r} + "-" + uuid.uuid4().hex)
def die():
    if os.getpid() == 1:
        os._exit(9)
    os.kill(os.getpid(), 9)
def beat():
    while True:
        if (folder / "die").exists():
            die()
        with life.open("a") as file:
            file.write(".")
        time.sleep({beat_s})
threading.Thread(target=beat, daemon=True).start()
while not life.exists():
    time.sleep(0.01)
"""
SERVE = "time.sleep(1000)\n"
ECHO = '(folder / "seen").write_text(repr(sys.argv[1:]))\n' + SERVE
SPEAK = 'print("out of", life.name); print("err of", life.name, file=sys.stderr)\n'
WITH_DESCENDANTS = """
generation = int(os.environ.get("GENERATION", "0"))
if generation < 2:
    program = open("/proc/self/cmdline").read().split("\\0")[2]
    for _ in range(2):
        subprocess.Popen([sys.executable, "-c", program, *sys.argv[1:]],
                         env={**os.environ, "GENERATION": str(generation + 1)}, start_new_session=True)
time.sleep(1000)
"""


def exits(status: int) -> str:
    """A program that ends so, after a moment in which it was seen alive."""
    return f"time.sleep(1)\nos._exit({status})\n"


class Stage:
    """One shared folder, its workers, and every launcher made for them, stopped at the end.

    Args:
        make: Makes a launcher of one and the same run.
        patience_s: How long the engine may take to do what it was asked.
        replaces_by_itself: Whether a new life may have begun before it was asked for.
    """

    def __init__(
        self,
        make: Callable[[], Launcher],
        folder: Path,
        patience_s: float,
        *,
        replaces_by_itself: bool = False,
    ) -> None:
        self._make = make
        self._replaces_by_itself = replaces_by_itself
        self._launchers: list[Launcher] = []
        self.folder = folder
        self.patience_s = patience_s

    def launcher(self) -> Launcher:
        """Another launcher of the same run, as a resumed master makes it."""
        self._launchers.append(self._make())
        return self._launchers[-1]

    def worker(
        self, name: str = "w0", *, program: str = SERVE, num_ranks: int = 1, oversubscribe: bool = True
    ) -> WorkerSpec:
        """A worker that runs a program of this module."""
        self._prepare()
        start = _LIVE.format(folder=str(self.folder), worker=name, beat_s=BEAT_S)
        return WorkerSpec(
            run="contract",
            worker=name,
            pool="p0",
            num_ranks=num_ranks,
            device="cpu",
            oversubscribe=oversubscribe,
            control_file=self.folder / "control.json",
            log_dir=self.folder / "workers" / name,
            program=("-c", start + program),
        )

    def lives(self, name: str = "") -> list[Path]:
        """The lives so far of one worker or all."""
        return sorted((self.folder / "lives").glob(f"{name}-*" if name else "*"))

    def living(self, name: str = "") -> list[Path]:
        """Those of them that go on; takes `SILENCE_S`."""
        before = {life: life.stat().st_size for life in self.lives(name)}
        time.sleep(SILENCE_S)
        return [life for life, size in before.items() if life.stat().st_size > size]

    def kill(self) -> None:
        """End all lives by SIGKILL from within."""
        (self.folder / "die").touch()
        self.eventually(lambda: not self.living())
        (self.folder / "die").unlink()

    def eventually(self, condition: Callable[[], bool]) -> None:
        """Wait for the engine to do something.

        Raises:
            AssertionError: It did not in time.
        """
        deadline = time.monotonic() + self.patience_s
        while not condition():
            assert time.monotonic() < deadline, f"not within {self.patience_s:g} s"
            time.sleep(0.2)

    def begin(self, launcher: Launcher, *workers: WorkerSpec) -> None:
        """Start workers and wait for a new life of each."""
        wanted = len(self.lives()) + len(workers)
        launcher.start(workers)
        if self._replaces_by_itself:
            self.eventually(lambda: self._live(launcher, workers))
        else:
            self.eventually(lambda: len(self.lives()) >= wanted)

    def _live(self, launcher: Launcher, workers: Sequence[WorkerSpec]) -> bool:
        """Whether the workers live; those that ended meanwhile, perhaps by the same `kill`, are renewed."""
        states = launcher.states({})
        if ended := [worker for worker in workers if states[worker.worker].state.is_terminal]:
            launcher.start(ended)
        return len(self.living()) >= len(workers)

    def close(self) -> None:
        """Stop everything."""
        for launcher in self._launchers:
            launcher.stop()

    def _prepare(self) -> None:
        (self.folder / "lives").mkdir(parents=True, exist_ok=True)
        control = self.folder / "control.json"
        control.write_text(f'{{"url": "http://127.0.0.1:9", "token": "{TOKEN}"}}')
        control.chmod(0o600)


def _states(launcher: Launcher) -> Mapping[str, WorkerState]:
    return {name: status.state for name, status in launcher.states({}).items()}


def _status(launcher: Launcher, name: str = "w0") -> WorkerStatus:
    return launcher.states({})[name]


class LauncherContract:
    """The suite; a subclass says how to make a launcher of its kind.

    Attributes:
        patience_s: How long the engine may take for one step.
        checks_capacity: Whether `Launcher.check` already knows that there are too few devices.
        replaces_by_itself: Whether the engine starts a worker again without being asked.
        passes_paths: Whether workers see the control file under the master's own path.
    """

    patience_s: ClassVar[float] = 30.0
    checks_capacity: ClassVar[bool] = True
    replaces_by_itself: ClassVar[bool] = False
    passes_paths: ClassVar[bool] = True

    def make_launcher(self) -> Launcher:
        """A new launcher for the run of the test."""
        raise NotImplementedError

    def shared_folder(self, tmp_path: Path) -> Path:
        """A new folder that the test and all workers see under one path."""
        return tmp_path

    @pytest.fixture
    def stage(self, tmp_path: Path) -> Iterator[Stage]:
        """The stage of one test."""
        made = Stage(
            self.make_launcher,
            self.shared_folder(tmp_path),
            self.patience_s,
            replaces_by_itself=self.replaces_by_itself,
        )
        yield made
        made.close()

    def test_a_launcher_that_started_nothing_knows_no_worker(self, stage: Stage) -> None:
        launcher = stage.launcher()
        assert launcher.states({}) == {}
        launcher.stop()
        launcher.stop()

    def test_rendering_starts_nothing_leaves_nothing_and_tells_no_secret(self, stage: Stage) -> None:
        launcher = stage.launcher()
        workers = [stage.worker("w0"), stage.worker("w1")]
        launcher.check(workers)
        before = sorted(stage.folder.rglob("*"))
        first = launcher.render(workers)
        assert launcher.render(workers) == first
        assert all(rendered.text for rendered in first)
        assert TOKEN not in "".join(rendered.text for rendered in first)
        assert launcher.states({}) == {}
        assert sorted(stage.folder.rglob("*")) == before

    def test_started_workers_run_until_they_are_stopped(self, stage: Stage) -> None:
        launcher = stage.launcher()
        workers = [stage.worker("w0"), stage.worker("w1")]
        launcher.check(workers)
        stage.begin(launcher, *workers)
        stage.eventually(lambda: _states(launcher) == {"w0": WorkerState.RUNNING, "w1": WorkerState.RUNNING})
        assert len(stage.living()) == 2
        launcher.stop()
        assert stage.living() == []
        assert launcher.states({}) == {}

    @pytest.mark.parametrize(("status", "expected"), [(0, WorkerState.EXITED), (3, WorkerState.FAILED)])
    def test_a_worker_that_ends_is_seen_with_how_it_ended(
        self, stage: Stage, status: int, expected: WorkerState
    ) -> None:
        launcher = stage.launcher()
        worker = stage.worker(program=exits(status))
        launcher.check([worker])
        launcher.start([worker])
        stage.eventually(lambda: _status(launcher).state.is_terminal)
        found = _status(launcher)
        assert found.state is expected
        assert str(status) in found.detail
        if not self.replaces_by_itself:
            assert _status(launcher) == found, "the end stays known"

    def test_a_worker_that_was_killed_is_noticed_and_can_be_started_again(self, stage: Stage) -> None:
        launcher = stage.launcher()
        worker = stage.worker()
        launcher.check([worker])
        stage.begin(launcher, worker)
        stage.kill()
        stage.eventually(lambda: _status(launcher).state is WorkerState.FAILED)
        stage.begin(launcher, worker)
        stage.eventually(lambda: _status(launcher).state is WorkerState.RUNNING)
        launcher.stop()
        assert stage.living() == []

    def test_stopping_leaves_no_descendant_wherever_it_hides(self, stage: Stage) -> None:
        launcher = stage.launcher()
        worker = stage.worker(program=WITH_DESCENDANTS)
        launcher.check([worker])
        launcher.start([worker])
        stage.eventually(lambda: len(stage.lives()) == 7)
        assert len(stage.living()) == 7
        launcher.stop()
        assert stage.living() == []

    def test_stopping_what_has_ended_is_no_error(self, stage: Stage) -> None:
        launcher = stage.launcher()
        worker = stage.worker(program=exits(1))
        launcher.check([worker])
        launcher.start([worker])
        stage.eventually(lambda: _status(launcher).state.is_terminal)
        launcher.stop()
        launcher.stop()
        assert stage.living() == []

    def test_a_new_launcher_adopts_a_living_worker_instead_of_starting_another(self, stage: Stage) -> None:
        first, worker = stage.launcher(), stage.worker()
        first.check([worker])
        stage.begin(first, worker)
        second = stage.launcher()
        second.check([worker])
        second.start([worker])
        stage.eventually(lambda: _status(second).state is WorkerState.RUNNING)
        assert len(stage.living()) == 1
        assert len(stage.lives()) == 1
        second.stop()
        assert stage.living() == []
        assert len(stage.lives()) == 1

    def test_the_death_of_an_adopted_worker_is_noticed_and_a_new_one_started(self, stage: Stage) -> None:
        first, second, worker = stage.launcher(), stage.launcher(), stage.worker()
        first.check([worker])
        stage.begin(first, worker)
        second.check([worker])
        second.start([worker])
        stage.kill()
        stage.eventually(lambda: _status(second).state is WorkerState.FAILED)
        stage.begin(second, worker)
        stage.eventually(lambda: _status(second).state is WorkerState.RUNNING)

    def test_a_new_launcher_does_not_adopt_a_dead_worker(self, stage: Stage) -> None:
        first, second, worker = stage.launcher(), stage.launcher(), stage.worker()
        first.check([worker])
        stage.begin(first, worker)
        first.stop()
        second.check([worker])
        stage.begin(second, worker)
        assert len(stage.living()) == 1

    def test_more_ranks_than_devices_are_refused_in_one_line(self, stage: Stage) -> None:
        launcher = stage.launcher()
        worker = stage.worker(num_ranks=TOO_MANY_RANKS, oversubscribe=False)
        if self.checks_capacity:
            with pytest.raises(LauncherError) as refused:
                launcher.check([worker])
            said = str(refused.value)
            assert str(TOO_MANY_RANKS) in said
            assert launcher.states({}) == {}
        else:
            launcher.check([worker])
            launcher.start([worker])
            stage.eventually(lambda: _status(launcher).state is WorkerState.REFUSED)
            said = _status(launcher).detail
        assert said
        assert "\n" not in said

    @pytest.mark.parametrize(
        "folder",
        ["with space", 'it\'s "quoted"', "semi;colon && $HOME `id`", "new\nline", "-dash", "ünïcode *?"],
    )
    def test_awkward_paths_reach_the_worker_as_they_are(self, stage: Stage, folder: str) -> None:
        stage.folder = stage.folder / folder
        launcher = stage.launcher()
        worker = stage.worker(program=ECHO)
        launcher.check([worker])
        stage.begin(launcher, worker)
        seen = stage.folder / "seen"
        stage.eventually(lambda: seen.exists() and seen.read_text() != "")
        if self.passes_paths:
            assert repr(["--control", str(worker.control_file), "--worker", "w0"])[:-1] in seen.read_text()

    def test_the_output_of_a_worker_is_kept_over_restarts_in_its_log_folder(self, stage: Stage) -> None:
        launcher = stage.launcher()
        worker = stage.worker(program=SPEAK + SERVE)
        launcher.check([worker])
        stage.begin(launcher, worker)
        stage.kill()
        stage.eventually(lambda: _status(launcher).state is WorkerState.FAILED)
        stage.begin(launcher, worker)
        launcher.stop()
        text = "".join(path.read_text() for path in worker.log_dir.glob("output*"))
        lives = [life.name for life in stage.lives()]
        assert [f"out of {life}" in text for life in lives] == [True, True]
        assert [f"err of {life}" in text for life in lives] == [True, True]
