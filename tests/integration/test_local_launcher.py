import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest
from support.waiting import eventually

from aibench.api.launcher import WORKER_PROGRAM, WorkerSpec, WorkerState
from aibench.errors import LauncherError
from launchers import local, processes
from launchers.local import LocalLauncher, LocalOptions

SLEEP = "import time; time.sleep(1000)"


@pytest.fixture
def launcher() -> Iterator[LocalLauncher]:
    made = LocalLauncher(LocalOptions())
    yield made
    made.stop()


@pytest.fixture
def cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))


def spec(tmp_path: Path, name: str = "w0", **changes: Any) -> WorkerSpec:
    values: dict[str, Any] = {
        "run": "run",
        "pool": "p0",
        "num_ranks": 1,
        "device": "cpu",
        "oversubscribe": False,
        "control_file": tmp_path / "control.json",
        "log_dir": tmp_path / name,
        "program": ("-c", SLEEP),
    }
    return WorkerSpec(worker=name, **{**values, **changes})


def words(launcher: LocalLauncher, worker: WorkerSpec) -> list[str]:
    (rendered,) = launcher.render([worker])
    assert rendered.name == worker.worker
    return shlex.split(rendered.text)


def with_accelerators(monkeypatch: pytest.MonkeyPatch, *kinds: str) -> None:
    monkeypatch.setattr(local, "_probe_accelerators", lambda: list(kinds))


def test_a_worker_is_aibench_with_its_share_of_cores_and_traffic_on_this_machine(
    tmp_path: Path, cores: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", "/mine")
    launcher = LocalLauncher(LocalOptions())
    worker = spec(tmp_path, num_ranks=3, program=WORKER_PROGRAM)
    launcher.check([worker, spec(tmp_path, "w1")])
    assert words(launcher, worker) == [
        f"PYTHONPATH={Path(local.__file__).parents[1]}:/mine",
        *("PYTHONSAFEPATH=1", "PYTHONUNBUFFERED=1", "OMP_NUM_THREADS=2", "GLOO_SOCKET_IFNAME=lo"),
        *(sys.executable, "-m", "aibench", "worker"),
        *("--control", str(tmp_path / "control.json"), "--worker", "w0"),
        *("--ranks", "3", "--device", "cpu", "--first-device", "0"),
    ]


def test_ranks_that_outnumber_the_cores_get_one_thread_each(tmp_path: Path, cores: None) -> None:
    launcher = LocalLauncher(LocalOptions())
    worker = spec(tmp_path, num_ranks=20, oversubscribe=True)
    launcher.check([worker])
    assert "OMP_NUM_THREADS=1" in words(launcher, worker)


def test_workers_on_accelerators_get_devices_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_accelerators(monkeypatch, *["cuda"] * 8)
    launcher = LocalLauncher(LocalOptions())
    workers = [
        spec(tmp_path, "w0", device="auto", num_ranks=4),
        spec(tmp_path, "w1", device="cpu"),
        spec(tmp_path, "w2", device="cuda", num_ranks=3),
        spec(tmp_path, "w3", device="auto"),
    ]
    launcher.check(workers)
    assert [words(launcher, worker)[-1] for worker in workers] == ["0", "0", "4", "7"]


def test_a_gang_over_several_nodes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LauncherError, match=r"^worker w0: nodes_per_worker is 2; expected 1"):
        LocalLauncher(LocalOptions()).check([spec(tmp_path, num_ranks=2, num_nodes=2)])


@pytest.mark.parametrize(
    ("workers", "kinds", "problem"),
    [
        ([{"num_ranks": 9}], [], "workers: 9 ranks, expected at most 8, the core(s) of this machine"),
        ([{"num_ranks": 5}, {"num_ranks": 4}], [], "workers: 9 ranks, expected at most 8, the core(s)"),
        (
            [{"num_ranks": 5, "oversubscribe": True}, {"num_ranks": 4}],
            [],
            "workers: 9 ranks, expected at most 8, the core(s)",
        ),
        ([{"num_ranks": 9, "device": "auto"}], [], "workers: 9 ranks, expected at most 8, the core(s)"),
        (
            [{"num_ranks": 3, "device": "auto"}],
            ["cuda", "cuda"],
            "workers: 3 ranks, expected at most 2, the accelerator(s) of this machine",
        ),
        (
            [{"num_ranks": 2, "device": "cuda"}, {"device": "auto"}],
            ["cuda", "cuda"],
            "workers: 3 ranks, expected at most 2, the accelerator(s)",
        ),
        ([{"device": "cuda"}], [], "worker w0: device 'cuda' is not here; found no accelerator"),
        ([{"device": "npu"}], ["cuda", "cuda"], "worker w0: device 'npu' is not here; found cuda"),
    ],
)
def test_what_the_machine_does_not_have_is_refused(
    tmp_path: Path,
    cores: None,
    monkeypatch: pytest.MonkeyPatch,
    workers: list[dict[str, Any]],
    kinds: list[str],
    problem: str,
) -> None:
    with_accelerators(monkeypatch, *kinds)
    specs = [spec(tmp_path, f"w{number}", **changes) for number, changes in enumerate(workers)]
    with pytest.raises(LauncherError) as refused:
        LocalLauncher(LocalOptions()).check(specs)
    assert str(refused.value).startswith(problem)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("workers", "kinds"),
    [
        ([{"num_ranks": 8}], []),
        ([{"num_ranks": 9, "oversubscribe": True}], []),
        ([{"num_ranks": 2, "device": "auto"}, {"num_ranks": 8}], ["cuda", "cuda"]),
        ([{"num_ranks": 2, "device": "cuda"}], ["cuda", "cuda"]),
        ([{"num_ranks": 9, "device": "cuda", "oversubscribe": True}], ["cuda"]),
        ([{"num_ranks": 900, "device": "simulated"}, {"num_ranks": 8}], []),
    ],
)
def test_what_the_machine_has_is_accepted(
    tmp_path: Path,
    cores: None,
    monkeypatch: pytest.MonkeyPatch,
    workers: list[dict[str, Any]],
    kinds: list[str],
) -> None:
    with_accelerators(monkeypatch, *kinds)
    specs = [spec(tmp_path, f"w{number}", **changes) for number, changes in enumerate(workers)]
    LocalLauncher(LocalOptions()).check(specs)


def test_processor_only_workers_need_no_look_at_accelerators(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def probe() -> list[str]:
        raise AssertionError("probed")

    monkeypatch.setattr(local, "_probe_accelerators", probe)
    LocalLauncher(LocalOptions()).check([spec(tmp_path), spec(tmp_path, "w1", device="simulated")])


def test_devices_that_cannot_be_listed_are_an_error_of_the_launcher(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no-python"))
    with pytest.raises(LauncherError, match=r"^the devices of this machine could not be listed: "):
        LocalLauncher(LocalOptions()).check([spec(tmp_path, device="auto")])


def test_a_program_that_is_not_there_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no-python"))
    with pytest.raises(LauncherError) as refused:
        LocalLauncher(LocalOptions()).start([spec(tmp_path)])
    assert str(refused.value).startswith("worker w0 could not be started: ")
    assert "\n" not in str(refused.value)


def test_a_log_folder_that_cannot_be_made_is_one_line(tmp_path: Path, launcher: LocalLauncher) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LauncherError, match=r"^worker w0 could not be started: "):
        launcher.start([spec(tmp_path, log_dir=tmp_path / "file" / "w0")])
    assert launcher.states({}) == {}


def test_a_note_that_cannot_be_written_leaves_no_unknown_worker(
    tmp_path: Path, launcher: LocalLauncher
) -> None:
    worker = spec(tmp_path)
    (worker.log_dir / "process.json.new").mkdir(parents=True)
    with pytest.raises(LauncherError, match=r"process\.json cannot be written"):
        launcher.start([worker])
    assert launcher.states({})["w0"].state is WorkerState.RUNNING
    launcher.stop()


@pytest.mark.parametrize("note", [b"", b"{", b"[]", b'{"pid": "x"}'])
def test_a_damaged_note_of_an_earlier_start_is_refused_instead_of_starting_a_second_worker(
    tmp_path: Path, launcher: LocalLauncher, note: bytes
) -> None:
    worker = spec(tmp_path)
    worker.log_dir.mkdir()
    (worker.log_dir / "process.json").write_bytes(note)
    with pytest.raises(LauncherError) as refused:
        launcher.start([worker])
    assert "process.json cannot be read" in str(refused.value)
    assert "end that worker, then delete it" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_another_process_with_the_pid_of_a_dead_worker_is_not_adopted(
    tmp_path: Path, launcher: LocalLauncher
) -> None:
    worker = spec(tmp_path)
    worker.log_dir.mkdir()
    with subprocess.Popen([sys.executable, "-c", SLEEP]) as other:
        note = {"pid": other.pid, "create_time_s": psutil.Process(other.pid).create_time() - 60.0}
        (worker.log_dir / "process.json").write_bytes(msgspec.json.encode(note))
        launcher.start([worker])
        started = msgspec.json.decode((worker.log_dir / "process.json").read_bytes())
        launcher.stop()
        assert other.poll() is None
        other.kill()
    assert started["pid"] != other.pid


STUBBORN = """
import os, pathlib, signal, subprocess, sys, time
folder = pathlib.Path(sys.argv[1])
def late(*_):
    child = subprocess.Popen([sys.executable, "-c", "import signal, time; "
        "signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(1000)"])
    (folder / "late").write_text(str(child.pid))
signal.signal(signal.SIGTERM, late)
(folder / "ready").touch()
while True:
    time.sleep(1)
"""


def test_a_worker_that_ignores_the_request_is_killed_with_what_it_started_meanwhile(
    tmp_path: Path, launcher: LocalLauncher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "STOP_GRACE_S", 1.0)
    worker = spec(tmp_path, program=("-c", STUBBORN, str(tmp_path / "w0")))
    launcher.start([worker])
    eventually((worker.log_dir / "ready").exists)
    note = msgspec.json.decode((worker.log_dir / "process.json").read_bytes())
    launcher.stop()
    late = int((worker.log_dir / "late").read_text())
    left = [pid for pid in (note["pid"], late) if psutil.pid_exists(pid)]
    assert [pid for pid in left if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE] == []
