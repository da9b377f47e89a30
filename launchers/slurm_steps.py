"""Workers as steps of an allocation that is already there."""

from __future__ import annotations

import logging
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from aibench.api.launcher import Rendered, WorkerSpec, WorkerState, WorkerStatus
from aibench.errors import LauncherError
from launchers.processes import Processes, last_line, rendered
from launchers.slurm_commands import allocation_capacity, ask, clean_environment, steps_of
from launchers.slurm_options import SlurmOptions
from launchers.slurm_script import CLIENT_LOG, cpus_per_node, label, probe_arguments, step_command
from launchers.slurm_states import FOLDER_NOT_SHARED, NOT_SHARED_DETAIL

logger = logging.getLogger(__name__)

STOP_GRACE_S = 10.0
STOP_LIMIT_S = 120.0
PAUSE_S = 0.3
MAX_CLOCK_SKEW_S = 2.0
NOTE_BYTES = 2000


class Steps:
    """One srun per worker, in a session of its own; an earlier master's are taken over by name."""

    def __init__(self, options: SlurmOptions, job: str) -> None:
        self._options = options
        self._job = job
        self._clients = Processes(log_name=CLIENT_LOG, environment=clean_environment(os.environ))
        self._workers: dict[str, WorkerSpec] = {}

    def check(self, workers: Sequence[WorkerSpec]) -> None:
        """Compare the workers with the allocation, and its nodes with this one."""
        capacity = allocation_capacity(self._job)
        check_capacity(workers, self._options, capacity.nodes, capacity.cpus, f"job {self._job}")
        probe(self._job, capacity.nodes, workers[0].control_file.parent)

    def render(self, workers: Sequence[WorkerSpec]) -> Sequence[Rendered]:
        """The commands of the steps."""
        return [rendered(worker, step_command(worker, self._options, self._job)) for worker in workers]

    def start(self, workers: Sequence[WorkerSpec]) -> None:
        """Start the workers that have no living step."""
        living = steps_of(self._job)
        for worker in workers:
            self._workers[worker.worker] = worker
            if _name(worker) not in living or self._clients.has_survivor(worker):
                self._clients.start(worker, step_command(worker, self._options, self._job))

    def states(self) -> Mapping[str, WorkerStatus]:
        """A step that is listed runs; of others, their srun says whether they wait or how they ended."""
        if not self._workers:
            return {}
        living, clients = steps_of(self._job), self._clients.states()
        return {
            name: _status(worker, clients.get(name), is_listed=_name(worker) in living)
            for name, worker in self._workers.items()
        }

    def stop(self) -> None:
        """Terminate the steps, kill what is left of them, and end those that still wait."""
        names = {_name(worker) for worker in self._workers.values()}
        if not names:
            return
        self._cancel(names, "--signal=TERM")
        self._wait(names, STOP_GRACE_S)
        self._clients.stop()
        if not self._wait(names, STOP_LIMIT_S, lambda: self._cancel(names)):
            logger.warning(
                "job %s: steps of this run do not end, see squeue --steps --jobs=%s", self._job, self._job
            )
        self._workers.clear()

    def _cancel(self, names: set[str], *arguments: str) -> None:
        numbers = [number for name, number in steps_of(self._job).items() if name in names]
        if numbers:
            try:
                ask("scancel", *arguments, *numbers)
            except LauncherError as error:
                # A step that ended meanwhile; the next look tells.
                logger.debug("%s", error)

    def _wait(self, names: set[str], limit_s: float, between: Callable[[], None] = lambda: None) -> bool:
        deadline = time.monotonic() + limit_s
        while names & steps_of(self._job).keys():
            if time.monotonic() > deadline:
                return False
            between()
            time.sleep(PAUSE_S)
        return True


def check_capacity(
    workers: Sequence[WorkerSpec], options: SlurmOptions, num_nodes: int, num_cpus: int, whose: str
) -> None:
    """Pass workers that fit.

    Raises:
        LauncherError: Too many ranks, or a gang over too many nodes.
    """
    for worker in workers:
        if worker.num_nodes > num_nodes:
            raise LauncherError(
                f"worker {worker.worker}: nodes_per_worker is {worker.num_nodes}; "
                f"expected at most {num_nodes}, the nodes of {whose}"
            )
    num_ranks = sum(worker.num_ranks for worker in workers)
    needed = sum(worker.num_nodes * cpus_per_node(worker, options) for worker in workers)
    if needed > num_cpus:
        raise LauncherError(
            f"workers: {num_ranks} ranks need {needed} CPUs, expected at most {num_cpus}, those of {whose} "
            "(see launcher.cpus_per_worker_node)"
        )


def probe(job: str, num_nodes: int, run_dir: Path) -> None:
    """Ask every node of a job for a new file beside the run folder, and for its clock.

    Raises:
        LauncherError: One does not see the file, or its clock is more than two seconds off.
    """
    folder = next(parent for parent in (run_dir, *run_dir.parents) if parent.is_dir())
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".aibench-probe-") as file:
            before_s = time.time()
            printed = ask("srun", f"--jobid={job}", *probe_arguments(Path(file.name), num_nodes))
            after_s = time.time()
    except OSError as error:
        raise LauncherError(f"{folder}: cannot be written ({error.strerror})") from error
    require_alike(printed, folder, before_s, after_s)


def require_alike(printed: str, folder: Path, before_s: float, after_s: float) -> None:
    """Pass nodes that saw the probe and whose clocks stood between the two moments.

    Raises:
        LauncherError: Naming those that did not.
    """
    nodes = [line.split() for line in printed.splitlines()]
    blind = [node for node, saw, _ in nodes if saw != "yes"]
    if blind:
        raise LauncherError(
            f"{folder}: not seen by node(s) {', '.join(sorted(blind))}; expected one that all nodes share "
            "(--out names another)"
        )
    for node, _, clock in nodes:
        skew_s = max(before_s - float(clock), float(clock) - after_s)
        if skew_s > MAX_CLOCK_SKEW_S:
            raise LauncherError(
                f"node {node}: its clock is {skew_s:.1f} s off this machine's; expected at most "
                f"{MAX_CLOCK_SKEW_S:g} s (are both synchronised?)"
            )


def _name(worker: WorkerSpec) -> str:
    return label(worker.run, worker.worker)


def _status(worker: WorkerSpec, client: WorkerStatus | None, *, is_listed: bool) -> WorkerStatus:
    if is_listed:
        return WorkerStatus(state=WorkerState.RUNNING)
    if client is None:
        return WorkerStatus(state=WorkerState.FAILED, detail="its step is gone")
    if client.state is WorkerState.RUNNING:
        return WorkerStatus(state=WorkerState.PENDING, detail="its srun waits for a place in the allocation")
    if client.detail == f"exit status {FOLDER_NOT_SHARED}":
        return WorkerStatus(state=WorkerState.REFUSED, detail=NOT_SHARED_DETAIL)
    note = _last_note(worker) if client.state is WorkerState.FAILED else ""
    return WorkerStatus(state=client.state, detail=f"{client.detail}: {note}" if note else client.detail)


def _last_note(worker: WorkerSpec) -> str:
    """What srun said last."""
    try:
        with (worker.log_dir / CLIENT_LOG).open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - NOTE_BYTES))
            return last_line(log.read().decode(errors="replace"))
    except OSError:
        return ""
