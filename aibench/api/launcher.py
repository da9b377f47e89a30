"""Where workers run: the interface between the suite and a launcher.

A launcher places workers and tells which are alive; it knows nothing of trials. Rendering is pure and shared
by ``--dry-run``; sending is a thin step after it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import ClassVar, Protocol

import msgspec

CPU = "cpu"
AUTO = "auto"
"""Accelerators if the node has any, else the processor."""
SIMULATED = "simulated"
"""No device at all: one process without torch stands for all ranks of a worker."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerSpec:
    """A worker to place.

    Attributes:
        worker: Its name, unique in the run.
        num_ranks: Processes of its gang, one per device.
        device: ``cpu``, ``auto`` for accelerators if there are any, ``simulated`` for none, or a device type
            of torch.
        oversubscribe: Whether ranks may share devices.
        control_file: Where it finds the master; readable on the worker's node.
        log_dir: Folder for its output and the launcher's own notes.
    """

    worker: str
    num_ranks: int
    device: str
    oversubscribe: bool
    control_file: Path
    log_dir: Path


@dataclass(frozen=True, kw_only=True, slots=True)
class Command:
    """What starts one worker: the exact arguments, and environment variables added to the launcher's own."""

    argv: tuple[str, ...]
    environment: Mapping[str, str]


class WorkerState(StrEnum):
    """A worker as its launcher sees it."""

    RUNNING = "running"
    EXITED = "exited"
    FAILED = "failed"

    @property
    def is_terminal(self) -> bool:
        """Whether nothing of the worker is left."""
        return self is not WorkerState.RUNNING


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerStatus:
    """State of one worker and, for people, what the engine said of it."""

    state: WorkerState
    detail: str = ""


class Launcher(Protocol):
    """Places workers. One thread uses it at a time; every call may block."""

    name: ClassVar[str]
    options_type: ClassVar[type[msgspec.Struct]]

    def __init__(self, options: msgspec.Struct) -> None: ...

    def check(self, workers: Sequence[WorkerSpec]) -> None:
        """Share devices and cores out among all workers of a run, or refuse; called before any other call.

        Raises:
            LauncherError: More ranks than devices, or the engine is absent.
        """
        ...

    def render(self, worker: WorkerSpec) -> Command:
        """What `start` would run, by what `check` shared out; starts nothing."""
        ...

    def start(self, worker: WorkerSpec) -> None:
        """Start the worker, or take over the one that an earlier launcher of the same run left alive.

        Raises:
            LauncherError: It could not be started.
        """
        ...

    def states(self) -> Mapping[str, WorkerStatus]:
        """State of every worker started here."""
        ...

    def stop(self, workers: Sequence[str]) -> None:
        """End workers by name and wait until nothing of them is left; unknown or ended ones are no error."""
        ...
