"""Workers by mpirun on the hosts of a machine file, or by a site's own script around it."""

from __future__ import annotations

import logging
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import msgspec

from aibench.api.host import Host
from aibench.api.launcher import (
    Command,
    Rendered,
    WorkerSpec,
    WorkerStatus,
    unnamed_arguments,
    worker_arguments,
)
from aibench.api.network import source_address
from aibench.api.stage import Say, StageOrder, broadcast_arguments
from aibench.errors import LauncherError
from launchers.machine_file import Seat, is_here, read_machines, share_out, this_machine
from launchers.mpi_stage import run_broadcast
from launchers.processes import Processes, python_environment, rendered

logger = logging.getLogger(__name__)

VERSION_TIMEOUT_S = 30.0
LOOPBACK = "127.0.0.1"
Text = Annotated[str, msgspec.Meta(min_length=1)]


class MpiOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How and where mpirun starts the workers.

    Attributes:
        machine_file: Hosts and their slots, one slot per rank; None for this machine alone. Under
            ``start: site`` it only tells which hosts must reach the master.
        mpirun: The program, by name or path.
        arguments: More arguments for it.
        start: ``us``, or ``site``: a script of the site runs the line that is shown.
        python: The interpreter on the hosts; None for the master's own.
    """

    machine_file: Text | None = None
    mpirun: Text = "mpirun"
    arguments: tuple[str, ...] = ()
    start: Literal["us", "site"] = "us"
    python: Text | None = None


@dataclass(frozen=True, slots=True)
class Flavour:
    """What a family of mpirun calls what we need.

    Attributes:
        marks: Words of its ``--version``.
        options: Given once; a worker's processes are not to be bound to a core, as they start ranks.
        root_options: Likewise, when started by root.
        hosts: Option before the hosts of one program, one process on each.
        exports_each: Option before each variable to carry to the hosts, for one program.
        exports_all: Option before all of them, given once.
    """

    name: str
    marks: tuple[str, ...]
    hosts: str
    options: tuple[str, ...] = ()
    root_options: tuple[str, ...] = ()
    exports_each: str | None = None
    exports_all: str | None = None


OPEN_MPI = Flavour(
    "Open MPI",
    marks=("Open MPI", "OpenRTE", "PRRTE"),
    hosts="--host",
    options=("--bind-to", "none"),
    root_options=("--allow-run-as-root",),
    exports_each="-x",
)
MPICH = Flavour("MPICH", marks=("HYDRA", "Intel(R) MPI"), hosts="-hosts", exports_all="-genvlist")
FLAVOURS = (OPEN_MPI, MPICH)


class MpiLauncher:
    """One mpirun per worker, so that workers do not take each other down; or, for the site, none."""

    name: ClassVar[str] = "mpi"
    options_type: ClassVar[type[msgspec.Struct]] = MpiOptions
    poll_period_s: ClassVar[float] = 1.0

    def __init__(self, options: msgspec.Struct) -> None:
        assert isinstance(options, MpiOptions)
        self._options = options
        self._flavour = OPEN_MPI
        self._seats: Mapping[str, Sequence[Seat]] = {}
        self._environment: Mapping[str, str] = python_environment()
        self._processes = Processes()

    def host(self) -> Host | None:
        """The master runs in this process."""
        return None

    def control_host(self) -> str:
        """This machine's address on the way to the first other host; loopback if there is none.

        Raises:
            LauncherError: That host's name leads nowhere.
        """
        other = next((host for host in self._machines() if not is_here(host)), None)
        if other is None:
            return LOOPBACK
        try:
            return source_address(other.strip("[]"))
        except OSError as error:
            raise LauncherError(
                f"this machine's address for {other} cannot be told ({error}); give control.host"
            ) from error

    def check(self, workers: Sequence[WorkerSpec]) -> None:
        """Ask mpirun which it is and share the slots out.

        Raises:
            LauncherError: No mpirun or an unknown one, an unusable machine file, too few slots, or, for a
                site's script, workers that are not alike.
        """
        self._processes.expect(workers)
        machines = self._machines()
        if self._options.start == "site":
            _check_alike(workers)
            return
        self._flavour = find_flavour(self._options.mpirun)
        self._seats = share_out(workers, machines)
        if all(map(is_here, machines)):
            num_ranks = sum(worker.num_ranks for worker in workers)
            threads = max(1, len(os.sched_getaffinity(0)) // num_ranks)
            self._environment = {**python_environment(), "OMP_NUM_THREADS": str(threads)}

    def stage(self, order: StageOrder, workers: Sequence[WorkerSpec], say: Say) -> None:
        """Broadcast the parcel to all hosts that have a seat of a worker.

        Raises:
            StageError: A host could not take it.
            LauncherError: The site starts the workers, on hosts that are not known here.
        """
        if self._options.start == "site":
            raise LauncherError(
                "stage: under launcher.start: site the hosts are not known here; "
                "expected stage.directory: null"
            )
        hosts = list(dict.fromkeys(seat.host for seats in self._seats.values() for seat in seats))
        run_broadcast(self._everywhere(hosts, broadcast_arguments(order)), say)

    def render(self, workers: Sequence[WorkerSpec]) -> Sequence[Rendered]:
        """The command line of each worker's mpirun; for the site, the one line that starts them all."""
        if self._options.start == "site":
            return [Rendered(name="for the site's script", text=self._site_line(workers))]
        return [rendered(worker, self._command(worker)) for worker in workers]

    def start(self, workers: Sequence[WorkerSpec]) -> None:
        """Start or adopt one mpirun per worker; for the site, say what to run.

        Raises:
            LauncherError: One cannot be started, or the note of an earlier start cannot be read.
        """
        if self._options.start == "site":
            logger.warning("waiting for the workers; start them by: %s", self._site_line(workers))
            return
        for worker in workers:
            self._processes.start(worker, self._command(worker))

    def states(self, hosts: Mapping[str, str]) -> Mapping[str, WorkerStatus]:
        """State of every mpirun; of what the site started nothing is known, its leases tell."""
        return self._processes.states()

    def stop(self) -> None:
        """Terminate every mpirun and all its descendants here; it ends those on other hosts."""
        self._processes.stop()

    def _machines(self) -> Mapping[str, int]:
        file = self._options.machine_file
        return this_machine() if file is None else read_machines(Path(file))

    def _python(self) -> str:
        return self._options.python or sys.executable

    def _site_line(self, workers: Sequence[WorkerSpec]) -> str:
        """All workers as one mpirun, whose ranks say which worker each process belongs to."""
        num_processes = len(workers) * workers[0].num_nodes
        words = (self._options.mpirun, "-np", str(num_processes), *self._options.arguments, self._python())
        return shlex.join([*words, *unnamed_arguments(workers[0])])

    def _everywhere(self, hosts: Sequence[str], arguments: Sequence[str]) -> Command:
        """A program of Python once on each host."""
        words = [*self._opening(), *self._on(hosts), self._python(), *arguments]
        return Command(argv=tuple(words), environment=self._environment)

    def _opening(self) -> list[str]:
        """What is given once, whatever is started."""
        flavour = self._flavour
        words = [self._options.mpirun, *flavour.options]
        if os.geteuid() == 0:
            words += flavour.root_options
        if flavour.exports_all:
            words += [flavour.exports_all, ",".join(self._environment)]
        return [*words, *self._options.arguments]

    def _on(self, hosts: Sequence[str]) -> list[str]:
        """What comes before a program that shall run once on each of these hosts."""
        words = ["-np", str(len(hosts)), self._flavour.hosts, ",".join(hosts)]
        for name in self._environment if self._flavour.exports_each else ():
            words += [str(self._flavour.exports_each), name]
        return words

    def _command(self, worker: WorkerSpec) -> Command:
        words = self._opening()
        seats = groupby(self._seats[worker.worker], key=lambda seat: seat.first_device)
        for number, (first_device, alike) in enumerate(seats):
            words += [":"] if number else []
            words += self._on([seat.host for seat in alike])
            words += [worker.python or self._python(), *worker_arguments(worker)]
            words += ["--first-device", str(first_device)]
        return Command(argv=tuple(words), environment=self._environment)


def find_flavour(mpirun: str) -> Flavour:
    """The family of a program, by its ``--version``.

    Raises:
        LauncherError: There is no such program, it does not answer, or it is of neither family.
    """
    if shutil.which(mpirun) is None:
        raise LauncherError(f"launcher.mpirun: {mpirun!r} is not there; expected a program, by name or path")
    try:
        said = subprocess.run(
            [mpirun, "--version"], capture_output=True, text=True, timeout=VERSION_TIMEOUT_S, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise LauncherError(f"launcher.mpirun: {mpirun} --version did not answer ({error})") from error
    for flavour in FLAVOURS:
        if any(mark in said for mark in flavour.marks):
            return flavour
    known = " or ".join(flavour.name for flavour in FLAVOURS)
    first = (said.strip().splitlines() or [""])[0]
    raise LauncherError(f"launcher.mpirun: {mpirun} says {first[:80]!r}; expected the words of {known}")


def _check_alike(workers: Sequence[WorkerSpec]) -> None:
    kinds = {(worker.num_ranks, worker.num_nodes, worker.device) for worker in workers}
    if len(kinds) > 1:
        raise LauncherError(
            f"workers: {len(kinds)} kinds; expected one under launcher.start: site, whose script starts all "
            "by one line"
        )
