"""What a worker leaves behind when only its first process is killed."""

from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from support.waiting import eventually

from aibench.api.launcher import WorkerSpec
from launchers.local import LocalLauncher, LocalOptions

WITH_CHILD = """
import pathlib, subprocess, sys, time
sleep = "import time; time.sleep(1000)"
child = subprocess.Popen([sys.executable, "-c", sleep], start_new_session=True)
with pathlib.Path(sys.argv[1], "children").open("a") as notes:
    notes.write(f"{child.pid}\\n")
time.sleep(1000)
"""


@pytest.fixture
def worker(tmp_path: Path) -> WorkerSpec:
    return WorkerSpec(
        run="run",
        worker="w0",
        pool="p0",
        num_ranks=1,
        device="cpu",
        oversubscribe=True,
        control_file=tmp_path / "control.json",
        log_dir=tmp_path / "w0",
        program=("-c", WITH_CHILD, str(tmp_path / "w0")),
    )


@pytest.fixture
def make_launcher(worker: WorkerSpec) -> Iterator[Callable[[], LocalLauncher]]:
    made: list[LocalLauncher] = []

    def make() -> LocalLauncher:
        made.append(LocalLauncher(LocalOptions()))
        made[-1].check([worker])
        return made[-1]

    yield make
    for launcher in made:
        launcher.stop()


def children(worker: WorkerSpec) -> list[int]:
    notes = worker.log_dir / "children"
    return [int(line) for line in notes.read_text().splitlines()] if notes.exists() else []


def is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def orphan(launcher: LocalLauncher, worker: WorkerSpec) -> int:
    """Start a worker and kill all of it but its child."""
    launcher.start([worker])
    eventually(lambda: bool(children(worker)))
    (child,) = children(worker)
    psutil.Process(child).parent().kill()  # type: ignore[union-attr]
    eventually(lambda: launcher.states({})["w0"].state.is_terminal)
    assert is_alive(child)
    return child


def test_stopping_ends_the_orphans_of_a_worker_that_was_killed(
    make_launcher: Callable[[], LocalLauncher], worker: WorkerSpec
) -> None:
    launcher = make_launcher()
    child = orphan(launcher, worker)
    launcher.stop()
    assert not is_alive(child)


def test_a_restart_ends_the_orphans_before_they_share_devices_with_the_new_worker(
    make_launcher: Callable[[], LocalLauncher], worker: WorkerSpec
) -> None:
    launcher = make_launcher()
    child = orphan(launcher, worker)
    launcher.start([worker])
    assert not is_alive(child)
    eventually(lambda: len(children(worker)) == 2)
    assert is_alive(children(worker)[1])


def test_a_worker_whose_master_died_before_it_could_note_it_is_not_started_twice(
    make_launcher: Callable[[], LocalLauncher], worker: WorkerSpec
) -> None:
    make_launcher().start([worker])
    eventually(lambda: bool(children(worker)))
    (worker.log_dir / "process.json").unlink()
    make_launcher().start([worker])
    eventually(lambda: len(children(worker)) == 2)
    assert [is_alive(pid) for pid in children(worker)] == [False, True]


def test_stopping_ends_what_an_earlier_master_left_and_nobody_adopted(
    make_launcher: Callable[[], LocalLauncher], worker: WorkerSpec
) -> None:
    make_launcher().start([worker])
    eventually(lambda: bool(children(worker)))
    make_launcher().stop()
    assert not is_alive(children(worker)[0])
