"""Workers as processes of this machine."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import msgspec
import psutil

from aibench.api.launcher import AUTO, CPU, SIMULATED, Command, WorkerSpec, WorkerState, WorkerStatus
from aibench.errors import LauncherError

PROBE_TIMEOUT_S = 120.0
STOP_GRACE_S = 10.0
CREATE_TIME_TOLERANCE_S = 1.0
LOG_NAME = "output.log"
PACKAGE_ROOT = Path(__file__).parents[1]


class LocalOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The local launcher has nothing to set."""


class _Footprint(msgspec.Struct, frozen=True):
    """What identifies a process across a restart of the master: pids are used again, births are not."""

    pid: int
    create_time_s: float


@dataclass(frozen=True, slots=True)
class _Placed:
    process: psutil.Process
    log: Path
    child: subprocess.Popen[bytes] | None


class LocalLauncher:
    """Starts each worker in its own session, so that a Ctrl-C at the master does not reach it directly."""

    name: ClassVar[str] = "local"
    options_type: ClassVar[type[msgspec.Struct]] = LocalOptions

    def __init__(self, options: msgspec.Struct) -> None:
        self._cores = len(os.sched_getaffinity(0))
        self._num_threads = 1
        self._first_devices: dict[str, int] = {}
        self._placed: dict[str, _Placed] = {}

    def check(self, workers: Sequence[WorkerSpec]) -> None:
        """Compare the ranks with this machine's devices and share its cores out.

        Raises:
            LauncherError: More ranks than devices where sharing was not allowed, or an absent device type.
        """
        workers = [worker for worker in workers if worker.device != SIMULATED]  # take no device and no core
        num_ranks = sum(worker.num_ranks for worker in workers)
        self._num_threads = max(1, self._cores // max(1, num_ranks))
        kinds = [] if all(worker.device == CPU for worker in workers) else _probe_accelerators()
        for worker in workers:
            if worker.device not in (CPU, AUTO) and worker.device not in kinds:
                raise LauncherError(
                    f"worker {worker.worker}: device {worker.device!r} is not here; "
                    f"found {', '.join(sorted(set(kinds))) or 'no accelerator'}"
                )
        on_cpu = [worker for worker in workers if worker.device == CPU or not kinds]
        _check_capacity(on_cpu, self._cores, "core(s)")
        on_accelerators = [worker for worker in workers if worker not in on_cpu]
        _check_capacity(on_accelerators, len(kinds), "accelerator(s)")
        before = 0
        for worker in on_accelerators:
            self._first_devices[worker.worker] = before
            before += worker.num_ranks

    def render(self, worker: WorkerSpec) -> Command:
        """The worker's command line and the environment that keeps its traffic on this machine."""
        return Command(
            argv=(
                *(sys.executable, "-m", "aibench", "worker"),
                *("--control", str(worker.control_file), "--worker", worker.worker),
                *("--ranks", str(worker.num_ranks), "--device", worker.device),
                *("--first-device", str(self._first_devices.get(worker.worker, 0))),
            ),
            environment={
                **_python_environment(),
                "OMP_NUM_THREADS": str(self._num_threads),
                "GLOO_SOCKET_IFNAME": "lo",
                "PYTHONUNBUFFERED": "1",
            },
        )

    def start(self, worker: WorkerSpec) -> None:
        """Start the worker, or adopt it if an earlier master of this run left it alive.

        Raises:
            LauncherError: It cannot be started, or the note of an earlier start cannot be read.
        """
        survivor = self._survivor(worker)
        if survivor is not None:
            self._placed[worker.worker] = _Placed(survivor, worker.log_dir / LOG_NAME, None)
            return
        command = self.render(worker)
        try:
            worker.log_dir.mkdir(parents=True, exist_ok=True)
            with (worker.log_dir / LOG_NAME).open("ab") as log:
                child = subprocess.Popen(
                    command.argv,
                    env={**os.environ, **command.environment},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
        except OSError as error:
            raise LauncherError(f"worker {worker.worker} could not be started: {error}") from error
        self._placed[worker.worker] = _Placed(psutil.Process(child.pid), worker.log_dir / LOG_NAME, child)
        _leave_footprint(worker, self._placed[worker.worker].process)

    def states(self) -> Mapping[str, WorkerStatus]:
        """State of every worker, from the process table."""
        return {name: _status(placed) for name, placed in self._placed.items()}

    def stop(self, workers: Sequence[str]) -> None:
        """Terminate the workers and all their descendants, by pid; kill what is left after a grace time."""
        placed = [self._placed.pop(name) for name in workers if name in self._placed]
        processes = [member for one in placed for member in _family(one.process)]
        for process in processes:
            _signal(process, psutil.Process.terminate)
        _, stubborn = psutil.wait_procs(processes, timeout=STOP_GRACE_S)
        processes = [member for process in stubborn for member in _family(process)]
        for process in processes:
            _signal(process, psutil.Process.kill)
        psutil.wait_procs(processes, timeout=STOP_GRACE_S)
        for one in placed:
            _status(one)
            _note_the_stop(one.log)

    def _survivor(self, worker: WorkerSpec) -> psutil.Process | None:
        path = _footprint_file(worker)
        if worker.worker in self._placed or not path.exists():
            return None
        try:
            footprint = msgspec.json.decode(path.read_bytes(), type=_Footprint)
        except (OSError, msgspec.MsgspecError) as error:
            raise LauncherError(
                f"worker {worker.worker}: {path} cannot be read ({error}); end that worker, then delete it"
            ) from error
        try:
            process = psutil.Process(footprint.pid)
            is_same = abs(process.create_time() - footprint.create_time_s) < CREATE_TIME_TOLERANCE_S
        except psutil.NoSuchProcess:
            return None
        return process if is_same and _is_alive(process) else None


def _probe_accelerators() -> list[str]:
    """Kinds of this machine's accelerators, asked of torch in a process of its own: the master has none."""
    try:
        probe = subprocess.run(
            [sys.executable, "-m", "aibench", "devices"],
            env={**os.environ, **_python_environment()},
            capture_output=True,
            text=True,
            timeout=PROBE_TIMEOUT_S,
            check=True,
        )
        # Device plug-ins of torch may print banners before the answer.
        return [device["kind"] for device in json.loads(probe.stdout.splitlines()[-1])["accelerators"]]
    except subprocess.CalledProcessError as error:
        why = (error.stderr.strip().splitlines() or [str(error)])[-1]
        raise LauncherError(f"the devices of this machine could not be listed: {why}") from error
    except (OSError, subprocess.SubprocessError, ValueError, LookupError) as error:
        raise LauncherError(f"the devices of this machine could not be listed: {error}") from error


def _python_environment() -> dict[str, str]:
    """The master's own aibench for the worker too, whatever lies in the working directory."""
    paths = [str(PACKAGE_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {"PYTHONPATH": os.pathsep.join(paths), "PYTHONSAFEPATH": "1"}


def _check_capacity(workers: Sequence[WorkerSpec], capacity: int, noun: str) -> None:
    num_ranks = sum(worker.num_ranks for worker in workers)
    if num_ranks > capacity and not all(worker.oversubscribe for worker in workers):
        raise LauncherError(
            f"workers: {num_ranks} ranks, expected at most {capacity}, the {noun} of this machine "
            "(or oversubscribe: true)"
        )


def _note_the_stop(log: Path) -> None:
    """torchrun logs the signal that ended it like an accident; say that it was none."""
    with contextlib.suppress(OSError), log.open("a") as file:
        file.write("aibench: this worker was stopped by its master; the SIGTERM above is not a failure\n")


def _footprint_file(worker: WorkerSpec) -> Path:
    return worker.log_dir / "process.json"


def _leave_footprint(worker: WorkerSpec, process: psutil.Process) -> None:
    path = _footprint_file(worker)
    draft = path.with_name(path.name + ".new")
    try:
        draft.write_bytes(msgspec.json.encode(_Footprint(process.pid, process.create_time())))
        draft.replace(path)
    except OSError as error:
        raise LauncherError(f"worker {worker.worker}: {path} cannot be written ({error})") from error


def _status(placed: _Placed) -> WorkerStatus:
    if placed.child is not None:
        code = placed.child.poll()
        if code is None:
            return WorkerStatus(state=WorkerState.RUNNING)
        state = WorkerState.EXITED if code == 0 else WorkerState.FAILED
        return WorkerStatus(state=state, detail=f"exit status {code}")
    if _is_alive(placed.process):
        return WorkerStatus(state=WorkerState.RUNNING)
    return WorkerStatus(state=WorkerState.FAILED, detail="adopted process is gone")


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _family(process: psutil.Process) -> list[psutil.Process]:
    try:
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _signal(process: psutil.Process, send: Callable[[psutil.Process], None]) -> None:
    try:
        send(process)
    except psutil.NoSuchProcess:
        return
