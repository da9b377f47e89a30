"""Programs of this machine that outlive the master that started them: start, adopt, watch, end."""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import psutil

from aibench.api.launcher import Command, Rendered, WorkerSpec, WorkerState, WorkerStatus
from aibench.errors import LauncherError

STOP_GRACE_S = 10.0
CREATE_TIME_TOLERANCE_S = 1.0
LOG_NAME = "output.log"
PLACE_VARIABLE = "AIBENCH_PLACE"
"""In the environment of a worker and all its descendants: its log folder, to find them when it is gone."""
PACKAGE_ROOT = Path(__file__).parents[1]


class _Footprint(msgspec.Struct, frozen=True):
    """What identifies a process across a restart of the master: pids are used again, births are not."""

    pid: int
    create_time_s: float


@dataclass(frozen=True, slots=True)
class _Placed:
    process: psutil.Process
    log: Path
    child: subprocess.Popen[bytes] | None


class Processes:
    """One process per worker, each in its own session, so that a Ctrl-C at the master does not reach it.

    Args:
        log_name: File in the worker's folder that its output is added to.
        environment: What commands add their variables to; the master's own by default.
    """

    def __init__(self, *, log_name: str = LOG_NAME, environment: Mapping[str, str] | None = None) -> None:
        self._placed: dict[str, _Placed] = {}
        self._places: dict[str, Path] = {}
        self._log_name = log_name
        self._environment = os.environ if environment is None else environment

    def expect(self, workers: Sequence[WorkerSpec]) -> None:
        """Note the workers of the run: `stop` also ends those that an earlier master left behind."""
        self._places = {worker.worker: worker.log_dir for worker in workers}

    def start(self, worker: WorkerSpec, command: Command) -> None:
        """Start the command for a worker, or adopt the process of an earlier start that is still alive.

        Raises:
            LauncherError: It cannot be started, or the note of an earlier start cannot be read.
        """
        survivor, log_file = self._survivor(worker), worker.log_dir / self._log_name
        if survivor is not None:
            self._placed[worker.worker] = _Placed(survivor, log_file, None)
            return
        # Orphans of its last life would share devices with the new one.
        _end(_inhabitants([worker.log_dir]), grace_s=0.0)
        try:
            worker.log_dir.mkdir(parents=True, exist_ok=True)
            with log_file.open("ab") as log:
                child = subprocess.Popen(
                    command.argv,
                    env={**self._environment, **command.environment, PLACE_VARIABLE: str(worker.log_dir)},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
        except OSError as error:
            raise LauncherError(f"worker {worker.worker} could not be started: {error}") from error
        self._places[worker.worker] = worker.log_dir
        self._placed[worker.worker] = _Placed(psutil.Process(child.pid), log_file, child)
        _leave_footprint(worker, self._placed[worker.worker].process)

    def states(self) -> Mapping[str, WorkerStatus]:
        """State of every worker's process, from the process table."""
        return {name: _status(placed) for name, placed in self._placed.items()}

    def stop(self) -> None:
        """Terminate all processes and all their descendants, by pid; kill what is left after a grace time.

        Those that an earlier master of this run left behind and nobody adopted are ended as well.
        """
        placed, places = list(self._placed.values()), list(self._places.values())
        self._placed.clear()
        self._places.clear()
        families = [member for one in placed for member in _family(one.process)]
        _end({*families, *_inhabitants(places)}, grace_s=STOP_GRACE_S)
        # A gang that was just restarting its ranks may have started some meanwhile.
        _end(_inhabitants(places), grace_s=0.0)
        for one in placed:
            _status(one)
        for place in places:
            _note_the_stop(place / LOG_NAME)

    def has_survivor(self, worker: WorkerSpec) -> bool:
        """Whether `start` would take over a process of an earlier start.

        Raises:
            LauncherError: The note of an earlier start cannot be read.
        """
        return self._survivor(worker) is not None

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


def rendered(worker: WorkerSpec, command: Command) -> Rendered:
    """A command as a line for a shell."""
    settings = "".join(f"{name}={shlex.quote(text)} " for name, text in command.environment.items())
    return Rendered(name=worker.worker, text=settings + shlex.join(command.argv))


def last_line(output: str) -> str:
    """What a program said last, without aibench's own name before it."""
    return (output.strip().splitlines() or [""])[-1].removeprefix("aibench: ")


def python_environment() -> dict[str, str]:
    """The master's own aibench for the worker too, whatever lies in the working directory."""
    paths = [str(PACKAGE_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {"PYTHONPATH": os.pathsep.join(paths), "PYTHONSAFEPATH": "1", "PYTHONUNBUFFERED": "1"}


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


def _inhabitants(places: Sequence[Path]) -> list[psutil.Process]:
    """Processes that were started in these places or descend from such, whoever their parent is now."""
    wanted = set(map(str, places))
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get(PLACE_VARIABLE) in wanted:
                found.append(process)
    return found


def _end(processes: Collection[psutil.Process], *, grace_s: float) -> None:
    """Terminate, and kill what is left of them and their descendants after a grace time."""
    for process in processes:
        _signal(process, psutil.Process.terminate)
    _, stubborn = psutil.wait_procs(processes, timeout=grace_s)
    processes = [member for process in stubborn for member in _family(process)]
    for process in processes:
        _signal(process, psutil.Process.kill)
    psutil.wait_procs(processes, timeout=STOP_GRACE_S)


def _signal(process: psutil.Process, send: Callable[[psutil.Process], None]) -> None:
    try:
        send(process)
    except psutil.NoSuchProcess:
        return
