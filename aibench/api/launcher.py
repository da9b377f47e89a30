"""Where workers run: the interface between the suite and a launcher.

A launcher places workers and tells which are alive; it knows nothing of trials. Rendering is pure and shared
by ``--dry-run``; sending is a thin step after it. `aibench.testing.launcher_contract` is the suite that every
launcher passes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import ClassVar, Protocol

import msgspec

from aibench.api.host import Host
from aibench.api.stage import Say, StageOrder

CPU = "cpu"
AUTO = "auto"
"""Accelerators if the node has any, else the processor."""
WORKER_PROGRAM = ("-m", "aibench", "worker")
SIMULATED = "simulated"
"""No device at all: one process without torch stands for all ranks of a worker."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerSpec:
    """A worker to place.

    Attributes:
        run: Name of the run, for labels; different for every run folder.
        worker: Its name, unique in the run.
        pool: Name of its group: workers of a pool are alike, so that a launcher whose places have no names of
            ours may start a place for any of them (``aibench worker --pool``).
        num_ranks: Processes of its gang, one per device, over all its nodes.
        num_nodes: Nodes that the gang spans; a divisor of ``num_ranks``.
        device: ``cpu``, ``auto`` for accelerators if there are any, ``simulated`` for none, or a device type
            of torch.
        oversubscribe: Whether ranks may share devices.
        control_file: Where it finds the master; written before `Launcher.start`, mode 0600.
        log_dir: Folder for its output and the launcher's own notes.
        program: What Python runs, before `worker_arguments`.
        python: Interpreter on its nodes; None for the launcher's choice.
    """

    run: str
    worker: str
    pool: str
    num_ranks: int
    device: str
    oversubscribe: bool
    control_file: Path
    log_dir: Path
    num_nodes: int = 1
    program: tuple[str, ...] = WORKER_PROGRAM
    python: str | None = None

    @property
    def ranks_per_node(self) -> int:
        """Processes of its gang on each of its nodes."""
        return self.num_ranks // self.num_nodes


@dataclass(frozen=True, kw_only=True, slots=True)
class Rendered:
    """Something that a launcher would send to its engine, exactly.

    Attributes:
        name: What it is for, such as a worker's name.
        text: A command line with its environment, a script or a manifest.
    """

    name: str
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Command:
    """A program to start: the exact arguments, and environment variables added to the launcher's own."""

    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)


class WorkerState(StrEnum):
    """A worker as its launcher sees it."""

    PENDING = "pending"
    """Asked for; the engine has not started it yet."""
    RUNNING = "running"
    EXITED = "exited"
    FAILED = "failed"
    REFUSED = "refused"
    """The engine will never start it as it was asked for; the detail says why."""

    @property
    def is_terminal(self) -> bool:
        """Whether nothing of the worker is left or will come."""
        return self not in (WorkerState.PENDING, WorkerState.RUNNING)


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerStatus:
    """State of one worker and, for people, what the engine said of it."""

    state: WorkerState
    detail: str = ""


class Launcher(Protocol):
    """Places workers. One thread uses it at a time; every call may block.

    Attributes:
        poll_period_s: Least time between two calls of `states` while nothing changes.
    """

    name: ClassVar[str]
    options_type: ClassVar[type[msgspec.Struct]]
    poll_period_s: ClassVar[float]

    def __init__(self, options: msgspec.Struct) -> None: ...

    def host(self) -> Host | None:
        """Where the master runs, if not in this process: nothing but `check` and `render` is called then."""
        ...

    def control_host(self) -> str:
        """This machine's address for the workers, unless the configuration names one.

        Raises:
            LauncherError: It cannot be told.
        """
        ...

    def check(self, workers: Sequence[WorkerSpec]) -> None:
        """Share devices and cores out among all workers of a run, or refuse; called before any other call.

        Raises:
            LauncherError: More ranks than devices, the engine is absent, or it would not take the workers.
        """
        ...

    def stage(self, order: StageOrder, workers: Sequence[WorkerSpec], say: Say) -> None:
        """Bring a parcel to the local disks of all nodes that the workers may run on, where it is not yet.

        Called after `check` and before `start`, also when a run is resumed. What an earlier attempt brought
        intact is not brought again.

        Raises:
            StageError: A node could not take it.
            LauncherError: The nodes could not be reached, or this launcher cannot stage.
        """
        ...

    def render(self, workers: Sequence[WorkerSpec]) -> Sequence[Rendered]:
        """What `start` would send, by what `check` shared out; starts and asks nothing."""
        ...

    def start(self, workers: Sequence[WorkerSpec]) -> None:
        """Start workers, or take over what an earlier launcher of the same run left alive of them.

        Called for all workers of the run at first, later for each one that ended and shall be replaced.

        Raises:
            LauncherError: They could not be started.
        """
        ...

    def states(self, hosts: Mapping[str, str]) -> Mapping[str, WorkerStatus]:
        """State of every worker started here, from one question to the engine.

        Args:
            hosts: Name of the host that each worker last joined from, where it has.

        Raises:
            LauncherError: The engine did not answer.
        """
        ...

    def stop(self) -> None:
        """End all workers of the run, remove what was created for them, and wait until nothing is left."""
        ...


def worker_folder(run_dir: Path, worker: str) -> Path:
    """Folder of one worker in a run folder: its output, and what the nodes of its gang tell each other."""
    return run_dir / "workers" / worker


def worker_arguments(worker: WorkerSpec) -> tuple[str, ...]:
    """What follows the interpreter on the command line of a worker that is placed by its name."""
    return (*worker.program, *_control(worker.control_file), "--worker", worker.worker, *_gang(worker))


def unnamed_arguments(worker: WorkerSpec) -> tuple[str, ...]:
    """The same for a process that takes its worker from its rank among those started together."""
    return (*worker.program, *_control(worker.control_file), *_gang(worker))


def pool_arguments(worker: WorkerSpec, control_file: Path) -> tuple[str, ...]:
    """The same for a place that any worker of the pool may take; it asks the master which."""
    return (*worker.program, *_control(control_file), "--pool", worker.pool, *_gang(worker))


def _control(control_file: Path) -> tuple[str, str]:
    return "--control", str(control_file)


def _gang(worker: WorkerSpec) -> tuple[str, ...]:
    nodes = ("--nodes", str(worker.num_nodes)) if worker.num_nodes > 1 else ()
    return ("--ranks", str(worker.num_ranks), "--device", worker.device, *nodes)
