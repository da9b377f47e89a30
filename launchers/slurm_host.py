"""The master as a SLURM job."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from aibench.api.host import HostState, HostStatus, MasterOrder
from aibench.errors import LauncherError
from launchers.slurm_commands import ask, job_record, partition_capacity
from launchers.slurm_options import SlurmOptions
from launchers.slurm_refusals import require_acceptable, submit_acceptable
from launchers.slurm_script import MASTER_LOG, job_shape, master_script
from launchers.slurm_states import host_status
from launchers.slurm_steps import check_capacity

STATUS_PERIOD_S = 5.0
PAUSE_S = 0.3


class SlurmHost:
    """Submits one job: the master in its batch step, the workers as its steps."""

    shares_files: ClassVar[bool] = True

    def __init__(self, options: SlurmOptions) -> None:
        self._options = options
        self._known: tuple[float, HostStatus] | None = None

    def check(self, order: MasterOrder) -> None:
        """Ask SLURM whether it would take the job."""
        name, capacity = partition_capacity(self._options.partition)
        check_capacity(order.workers, self._options, capacity.nodes, capacity.cpus, f"partition {name}")
        shape = job_shape(order.workers, self._options)
        if shape.nodes > capacity.nodes:
            raise LauncherError(
                f"launcher: the workers take {shape.nodes} nodes, expected at most {capacity.nodes} of "
                f"partition {name} (see workers_per_node)"
            )
        require_acceptable(self.render(order), self._options)

    def render(self, order: MasterOrder) -> str:
        """The script."""
        return master_script(order, self._options)

    def submit(self, order: MasterOrder) -> str:
        """Submit the script; the job's number."""
        return str(submit_acceptable(self.render(order), self._options))

    def status(self, reference: str) -> HostStatus:
        """From squeue, and sacct where it is forgotten there."""
        record = job_record(int(reference))
        if record is None:
            status = HostStatus(state=HostState.ENDED, detail="SLURM no longer knows the job")
        else:
            status = host_status(record.word, record.reason, record.exit_status)
        self._known = time.monotonic(), status
        return status

    def logs(self, reference: str, run_dir: Path) -> Iterator[str]:
        """Lines of the master's log as they come; whoever else asks for the status spares a question here."""
        path, offset = run_dir / MASTER_LOG, 0
        while True:
            is_last = self._recent_status(reference).state.is_terminal
            with contextlib.suppress(FileNotFoundError), path.open("rb") as log:
                log.seek(offset)
                for line in log:
                    if line.endswith(b"\n") or is_last:
                        offset += len(line)
                        yield line.decode(errors="replace").rstrip()
            if is_last:
                return
            time.sleep(PAUSE_S)

    def cancel(self, reference: str) -> None:
        """Signal the batch step, or take the job out of the queue."""
        state = self.status(reference).state
        if state is HostState.RUNNING:
            ask("scancel", "--signal=TERM", "--batch", reference)
        elif state is not HostState.ENDED:
            ask("scancel", reference)

    def fetch(self, reference: str, run_dir: Path) -> None:
        """The folder is shared: only a job that will never run is left to remove."""
        if self.status(reference).state is HostState.REFUSED:
            ask("scancel", reference)

    def _recent_status(self, reference: str) -> HostStatus:
        if self._known is not None and time.monotonic() - self._known[0] < 2 * STATUS_PERIOD_S:
            return self._known[1]
        return self.status(reference)
