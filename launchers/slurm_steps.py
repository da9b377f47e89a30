"""Workers as steps of an allocation that is already there."""

from __future__ import annotations

import logging
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from aibench.api.launcher import Rendered, WorkerSpec, WorkerState, WorkerStatus
from aibench.errors import LauncherError
from launchers.processes import Processes, last_line, rendered
from launchers.slurm_commands import (
    allocation_capacity,
    ask,
    clean_environment,
    node_names,
    nodes_of,
    steps_of,
)
from launchers.slurm_options import SlurmOptions
from launchers.slurm_script import CLIENT_LOG, cpus_per_node, label, probe_arguments, step_command
from launchers.slurm_states import FOLDER_NOT_SHARED, NOT_SHARED_DETAIL

logger = logging.getLogger(__name__)

STOP_GRACE_S = 10.0
STOP_LIMIT_S = 120.0
PAUSE_S = 0.3
NOTE_BYTES = 2000


class Steps:
    """One srun per worker, in a session of its own: it sees the worker's end, also by the loss of its node.

    A step whose srun is gone has no witness: it is ended and started again.
    """

    def __init__(self, options: SlurmOptions, job: str) -> None:
        self._options = options
        self._job = job
        self._clients = Processes(log_name=CLIENT_LOG, environment=clean_environment(os.environ))
        self._workers: dict[str, WorkerSpec] = {}
        self._names: set[str] = set()
        self._past: set[str] = set()

    def check(self, workers: Sequence[WorkerSpec]) -> None:
        """Compare the workers with the allocation, and look for the run folder's place from its nodes."""
        self._names = {_name(worker) for worker in workers}
        self._clients.expect(workers)
        capacity = allocation_capacity(self._job)
        check_capacity(workers, self._options, capacity.nodes, capacity.cpus, f"job {self._job}")
        probe(self._job, capacity.nodes, workers[0].control_file.parent)

    def render(self, workers: Sequence[WorkerSpec]) -> Sequence[Rendered]:
        """The commands of the steps."""
        return [rendered(worker, step_command(worker, self._options, self._job)) for worker in workers]

    def start(self, workers: Sequence[WorkerSpec]) -> None:
        """Start the workers, or take over the living sruns of an earlier master."""
        lost = {_name(worker) for worker in workers if not self._clients.has_survivor(worker)}
        numbers = [step.number for step in steps_of(self._job) if step.name in lost]
        self._past.update(numbers)
        _cancel(numbers)
        for worker in workers:
            self._names.add(_name(worker))
            self._workers[worker.worker] = worker
            self._clients.start(worker, step_command(worker, self._options, self._job))

    def states(self) -> Mapping[str, WorkerStatus]:
        """By the sruns; squeue tells those that run from those that wait."""
        if not self._workers:
            return {}
        names = {step.name for step in steps_of(self._job) if step.number not in self._past}
        clients = self._clients.states()
        return {
            name: _status(worker, clients[name], is_listed=_name(worker) in names)
            for name, worker in self._workers.items()
        }

    def stop(self) -> None:
        """Terminate the run's steps, an earlier master's too, and wait until no node of theirs is left."""
        if not self._names:
            return
        _cancel(self._left(), "--signal=TERM")
        self._wait(STOP_GRACE_S)
        self._clients.stop()
        _cancel(self._left())
        if not self._wait(STOP_LIMIT_S):
            logger.warning("steps %s do not end, see squeue --steps", ", ".join(self._left()))
        self._workers.clear()
        self._names.clear()

    def _wait(self, limit_s: float) -> bool:
        deadline = time.monotonic() + limit_s
        while self._left():
            if time.monotonic() > deadline:
                return False
            time.sleep(PAUSE_S)
        return True

    def _left(self) -> list[str]:
        """Numbers of this run's steps that have a node left; without one they stay listed for ever."""
        steps = [step for step in steps_of(self._job) if step.name in self._names]
        nodes = nodes_of(self._job) if steps else set()
        return [step.number for step in steps if nodes & node_names(step.nodes)]


def _cancel(numbers: Sequence[str], *arguments: str) -> None:
    if not numbers:
        return
    try:
        ask("scancel", *arguments, *numbers)
    except LauncherError as error:
        # Of a step that has ended meanwhile; the next look tells.
        logger.debug("%s", error)


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
    """Look from every node of a job for a new file beside the run folder.

    Raises:
        LauncherError: Some do not see it.
    """
    folder = next(parent for parent in (run_dir, *run_dir.parents) if parent.is_dir())
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".aibench-probe-") as file:
            blind = ask("srun", f"--jobid={job}", *probe_arguments(Path(file.name), num_nodes)).split()
    except OSError as error:
        raise LauncherError(f"{folder}: cannot be written ({error.strerror})") from error
    if blind:
        raise LauncherError(
            f"{folder}: not seen by node(s) {', '.join(sorted(blind))}; expected one that all nodes share "
            "(--out names another)"
        )


def _name(worker: WorkerSpec) -> str:
    return label(worker.run, worker.worker)


def _status(worker: WorkerSpec, client: WorkerStatus, *, is_listed: bool) -> WorkerStatus:
    if client.state is WorkerState.RUNNING and is_listed:
        return client
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
