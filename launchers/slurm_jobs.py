"""Workers as elements of job arrays, submitted by a master outside."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence

from aibench.api.launcher import Rendered, WorkerSpec, WorkerState, WorkerStatus
from aibench.errors import LauncherError
from launchers.slurm_commands import JobRecord, accounted, ask, jobs_named, partition_capacity
from launchers.slurm_options import SlurmOptions
from launchers.slurm_refusals import require_acceptable, submit_acceptable
from launchers.slurm_script import array_script, label
from launchers.slurm_states import worker_status
from launchers.slurm_steps import check_capacity

logger = logging.getLogger(__name__)

STOP_LIMIT_S = 180.0
PAUSE_S = 0.5


class Jobs:
    """One array for the workers of a pool that are started together; an element's index is its worker."""

    def __init__(self, options: SlurmOptions) -> None:
        self._options = options
        self._indices: dict[str, int] = {}
        self._jobs: dict[str, int] = {}
        self._ended: dict[str, WorkerStatus] = {}
        self._name = ""

    def check(self, workers: Sequence[WorkerSpec]) -> None:
        """Number the workers, and ask SLURM whether it would take them."""
        for worker in workers:
            self._index(worker)
        self._name = label("aibench", workers[0].run)
        name, capacity = partition_capacity(self._options.partition)
        check_capacity(workers, self._options, capacity.nodes, capacity.cpus, f"partition {name}")
        for script in self.render(workers):
            require_acceptable(script.text, self._options)

    def render(self, workers: Sequence[WorkerSpec]) -> Sequence[Rendered]:
        """One script per pool."""
        return [
            Rendered(name=pool, text=array_script(members, [self._index(w) for w in members], self._options))
            for pool, members in _pools(workers).items()
        ]

    def start(self, workers: Sequence[WorkerSpec]) -> None:
        """Submit the workers that have no living job."""
        living = {record.index: record.job for record in jobs_named(self._name) if not _has_ended(record)}
        missing = []
        for worker in workers:
            self._ended.pop(worker.worker, None)
            if (index := self._index(worker)) in living:
                self._jobs[worker.worker] = living[index]
            else:
                missing.append(worker)
        for members in _pools(missing).values():
            self._submit(members)

    def states(self) -> Mapping[str, WorkerStatus]:
        """From one question by the run's name; ends are kept, for SLURM forgets them."""
        if not self._jobs:
            return {}
        records = {(record.job, record.index): record for record in jobs_named(self._name)}
        return {worker: self._state(worker, job, records) for worker, job in self._jobs.items()}

    def _state(
        self, worker: str, job: int, records: Mapping[tuple[int, int | None], JobRecord]
    ) -> WorkerStatus:
        if worker not in self._ended:
            index = self._indices[worker]
            status = _status(records.get((job, index)) or accounted(f"{job}_{index}"))
            if not status.state.is_terminal:
                return status
            self._ended[worker] = status
        return self._ended[worker]

    def stop(self) -> None:
        """Cancel all jobs of the run, an earlier master's too, and wait until none is left."""
        if not self._name:
            return
        deadline = time.monotonic() + STOP_LIMIT_S
        asked: set[int] = set()
        while living := {r.job for r in jobs_named(self._name) if not _has_ended(r)}:
            if new := living - asked:
                ask("scancel", *map(str, sorted(new)))
                asked |= new
            if time.monotonic() > deadline:
                logger.warning("jobs %s do not end, see squeue", ", ".join(map(str, sorted(living))))
                break
            time.sleep(PAUSE_S)
        self._jobs.clear()
        self._ended.clear()

    def _index(self, worker: WorkerSpec) -> int:
        return self._indices.setdefault(worker.worker, len(self._indices))

    def _submit(self, workers: Sequence[WorkerSpec]) -> None:
        try:
            for worker in workers:
                worker.log_dir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise LauncherError(f"{workers[0].log_dir}: cannot be made ({error.strerror})") from error
        script = array_script(workers, [self._index(worker) for worker in workers], self._options)
        job = submit_acceptable(script, self._options)
        self._jobs.update({worker.worker: job for worker in workers})


def _pools(workers: Sequence[WorkerSpec]) -> Mapping[str, Sequence[WorkerSpec]]:
    pools: dict[str, list[WorkerSpec]] = {}
    for worker in workers:
        pools.setdefault(worker.pool, []).append(worker)
    return pools


def _status(record: JobRecord | None) -> WorkerStatus:
    if record is None:
        return WorkerStatus(state=WorkerState.FAILED, detail="SLURM no longer knows its job")
    return worker_status(record.word, record.reason, record.exit_status)


def _has_ended(record: JobRecord) -> bool:
    """Whether nothing of the job is left; one that can never run still waits."""
    status = worker_status(record.word, "", record.exit_status)
    return status.state.is_terminal
