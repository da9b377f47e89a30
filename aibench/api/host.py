"""Where the master runs, when it is not the process that was asked: a batch job, a pod.

`aibench run` then submits, and follows or lets go; ``aibench status``, ``logs``, ``cancel`` and ``fetch``
find what they need in the run folder's submission record.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol

if TYPE_CHECKING:
    from aibench.api.launcher import WorkerSpec


@dataclass(frozen=True, kw_only=True, slots=True)
class MasterOrder:
    """A master to place.

    Attributes:
        run: Name of the run, for labels; different for every run folder.
        run_dir: The run folder here. It holds the resolved configuration before `Host.submit`; where the
            master cannot see it, the host carries the configuration there and `Host.fetch` the results back.
        config: The resolved configuration, YAML.
        workers: The workers that the master will place.
        measured_time_s: Limit of the measured time, if the run has one.
    """

    run: str
    run_dir: Path
    config: str
    workers: Sequence[WorkerSpec]
    measured_time_s: float | None


class HostState(StrEnum):
    """A submitted master as its engine sees it."""

    PENDING = "pending"
    RUNNING = "running"
    ENDED = "ended"
    """Nothing of it is left; whether the run succeeded, its journal says."""
    REFUSED = "refused"
    """The engine will never start it as it was submitted; the detail says why."""

    @property
    def is_terminal(self) -> bool:
        """Whether nothing of the master is left or will come."""
        return self in (HostState.ENDED, HostState.REFUSED)


@dataclass(frozen=True, kw_only=True, slots=True)
class HostStatus:
    """State of a submitted master and, for people, what the engine said of it."""

    state: HostState
    detail: str = ""


class Host(Protocol):
    """Places one master. A reference is what `submit` returned: one line, kept in the run folder.

    The submitted program is ``aibench master FOLDER --run NAME``: it starts the run of the folder's
    configuration or, if a journal is there, goes on with it.

    Attributes:
        shares_files: Whether the master sees the files of this machine under the same paths. If not, data is
            looked at only there.
    """

    shares_files: ClassVar[bool]

    def check(self, order: MasterOrder) -> None:
        """Refuse what the engine would not take, before anything is written.

        Raises:
            LauncherError: The engine is absent, a permission is missing (which), or a value is unknown to it.
        """
        ...

    def render(self, order: MasterOrder) -> str:
        """The exact script or manifest; asks and sends nothing."""
        ...

    def submit(self, order: MasterOrder) -> str:
        """Send it and return its reference.

        Raises:
            LauncherError: The engine refused; nothing of it is left there.
        """
        ...

    def status(self, reference: str) -> HostStatus:
        """Ask the engine once.

        Raises:
            LauncherError: It did not answer.
        """
        ...

    def logs(self, reference: str, run_dir: Path) -> Iterator[str]:
        """Lines that the master has printed and, until it ends, prints."""
        ...

    def cancel(self, reference: str) -> None:
        """Ask the master to end its run early, scored and sealed; no error if it has ended."""
        ...

    def fetch(self, reference: str, run_dir: Path) -> None:
        """Bring the results of an ended or running master into the run folder here, then, of an ended one,
        remove everything that was created for it.

        Raises:
            LauncherError: They cannot be had.
        """
        ...
