"""Workers on a SLURM cluster: as steps of an allocation, or as jobs; the master too, as a job."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import ClassVar

import msgspec

from aibench.api.host import Host
from aibench.api.launcher import Rendered, WorkerSpec, WorkerStatus
from aibench.api.network import source_address
from aibench.api.stage import Say, StageOrder
from aibench.errors import LauncherError
from launchers.slurm_commands import controller_address, node_address
from launchers.slurm_host import SlurmHost
from launchers.slurm_jobs import Jobs
from launchers.slurm_options import SlurmOptions
from launchers.slurm_script import MASTER_VARIABLE
from launchers.slurm_stage import stage
from launchers.slurm_steps import Steps


class SlurmLauncher:
    """Places workers by srun in an allocation, else by sbatch."""

    name: ClassVar[str] = "slurm"
    options_type: ClassVar[type[msgspec.Struct]] = SlurmOptions
    poll_period_s: ClassVar[float] = 5.0

    def __init__(self, options: msgspec.Struct) -> None:
        assert isinstance(options, SlurmOptions)
        self._options = options
        job = os.environ.get("SLURM_JOB_ID", "")
        is_ours = bool(job) and os.environ.get(MASTER_VARIABLE) == job
        self._is_inside = is_ours or (bool(job) and options.master != "job")
        self._placement = Steps(options, job) if self._is_inside else Jobs(options)

    def host(self) -> Host | None:
        """A job, unless there is an allocation or the configuration wants the master here."""
        return None if self._is_inside or self._options.master == "here" else SlurmHost(self._options)

    def control_host(self) -> str:
        """This node's address in SLURM's configuration; outside, the address that faces slurmctld."""
        if node := os.environ.get("SLURMD_NODENAME"):
            return node_address(node)
        controller = controller_address()
        try:
            return source_address(controller)
        except OSError as error:
            raise LauncherError(
                f"no address of this machine leads to {controller} ({error}); set control.host"
            ) from error

    def check(self, workers: Sequence[WorkerSpec]) -> None:
        """Compare the workers with what the allocation or the partition has.

        Raises:
            LauncherError: They do not fit, SLURM is away or refuses them, or nodes do not see the folder.
        """
        self._placement.check(workers)

    def stage(self, order: StageOrder, workers: Sequence[WorkerSpec], say: Say) -> None:
        """Broadcast the parcel to all nodes of the allocation.

        Raises:
            StageError: A node could not take it.
            LauncherError: There is no allocation, or SLURM did not answer.
        """
        if not self._is_inside:
            raise LauncherError(
                "stage: workers that are jobs of their own have no nodes yet; expected launcher.master: auto "
                "or job, or a run inside an allocation"
            )
        stage(order, self._options, os.environ["SLURM_JOB_ID"], say)

    def render(self, workers: Sequence[WorkerSpec]) -> Sequence[Rendered]:
        """Commands of steps, or scripts of arrays."""
        return self._placement.render(workers)

    def start(self, workers: Sequence[WorkerSpec]) -> None:
        """Start workers, or take over what an earlier master left alive of them.

        Raises:
            LauncherError: SLURM refused.
        """
        self._placement.start(workers)

    def states(self, hosts: Mapping[str, str]) -> Mapping[str, WorkerStatus]:
        """State of every worker, from one squeue."""
        return self._placement.states()

    def stop(self) -> None:
        """End all workers and wait until SLURM lists nothing of them."""
        self._placement.stop()
