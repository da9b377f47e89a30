"""Workers as processes of this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import ClassVar

import msgspec

from aibench.api.host import Host
from aibench.api.launcher import (
    AUTO,
    CPU,
    SIMULATED,
    Command,
    Rendered,
    WorkerSpec,
    WorkerStatus,
    worker_arguments,
)
from aibench.api.stage import Say, StageOrder, unpack_arguments
from aibench.errors import LauncherError, StageError
from launchers.processes import Processes, last_line, python_environment, rendered

PROBE_TIMEOUT_S = 120.0


class LocalOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The local launcher has nothing to set."""


class LocalLauncher:
    """Starts each worker as a process of this machine."""

    name: ClassVar[str] = "local"
    options_type: ClassVar[type[msgspec.Struct]] = LocalOptions
    poll_period_s: ClassVar[float] = 1.0

    def __init__(self, options: msgspec.Struct) -> None:
        self._cores = len(os.sched_getaffinity(0))
        self._num_threads = 1
        self._first_devices: dict[str, int] = {}
        self._processes = Processes()

    def host(self) -> Host | None:
        """The master runs in this process."""
        return None

    def control_host(self) -> str:
        """The loopback address."""
        return "127.0.0.1"

    def check(self, workers: Sequence[WorkerSpec]) -> None:
        """Compare the ranks with this machine's devices and share its cores out.

        Raises:
            LauncherError: More ranks than devices where sharing was not allowed, a gang over several nodes,
                or an absent device type.
        """
        _check_nodes(workers)
        self._processes.expect(workers)
        workers = [worker for worker in workers if worker.device != SIMULATED]  # take no device and no core
        num_ranks = sum(worker.num_ranks for worker in workers)
        self._num_threads = max(1, self._cores // max(1, num_ranks))
        kinds = [] if all(worker.device == CPU for worker in workers) else _probe_accelerators()
        for worker in workers:
            if worker.device not in (CPU, AUTO) and worker.device not in kinds:
                raise LauncherError(
                    f"worker {worker.worker}: device {worker.device!r} is not here; "
                    f"found {', '.join(sorted(set(kinds))) or 'no accelerator'}"
                )
        on_cpu = [worker for worker in workers if worker.device == CPU or not kinds]
        _check_capacity(on_cpu, self._cores, "core(s)")
        on_accelerators = [worker for worker in workers if worker not in on_cpu]
        _check_capacity(on_accelerators, len(kinds), "accelerator(s)")
        before = 0
        for worker in on_accelerators:
            self._first_devices[worker.worker] = before
            before += worker.num_ranks

    def stage(self, order: StageOrder, workers: Sequence[WorkerSpec], say: Say) -> None:
        """Unpack the parcel on this machine.

        Raises:
            StageError: It cannot be unpacked.
        """
        done = subprocess.run(
            [sys.executable, *unpack_arguments(order, order.source)],
            env={**os.environ, **python_environment()},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise StageError(last_line(done.stderr) or f"{order.destination}: exit status {done.returncode}")

    def render(self, workers: Sequence[WorkerSpec]) -> Sequence[Rendered]:
        """The workers' command lines."""
        return [rendered(worker, self._command(worker)) for worker in workers]

    def start(self, workers: Sequence[WorkerSpec]) -> None:
        """Start the workers, or adopt those that an earlier master of this run left alive.

        Raises:
            LauncherError: One cannot be started, or the note of an earlier start cannot be read.
        """
        for worker in workers:
            self._processes.start(worker, self._command(worker))

    def states(self, hosts: Mapping[str, str]) -> Mapping[str, WorkerStatus]:
        """State of every worker, from the process table."""
        return self._processes.states()

    def stop(self) -> None:
        """Terminate the workers and all their descendants; kill what is left after a grace time."""
        self._processes.stop()

    def _command(self, worker: WorkerSpec) -> Command:
        """The worker's command line and the environment that keeps its traffic on this machine."""
        first_device = str(self._first_devices.get(worker.worker, 0))
        return Command(
            argv=(worker.python or sys.executable, *worker_arguments(worker), "--first-device", first_device),
            environment={
                **python_environment(),
                "OMP_NUM_THREADS": str(self._num_threads),
                "GLOO_SOCKET_IFNAME": "lo",
            },
        )


def _probe_accelerators() -> list[str]:
    """Kinds of this machine's accelerators, asked of torch in a process of its own: the master has none."""
    try:
        probe = subprocess.run(
            [sys.executable, "-m", "aibench", "devices"],
            env={**os.environ, **python_environment()},
            capture_output=True,
            text=True,
            timeout=PROBE_TIMEOUT_S,
            check=True,
        )
        # Device plug-ins of torch may print banners before the answer.
        return [device["kind"] for device in json.loads(probe.stdout.splitlines()[-1])["accelerators"]]
    except subprocess.CalledProcessError as error:
        why = last_line(error.stderr) or str(error)
        raise LauncherError(f"the devices of this machine could not be listed: {why}") from error
    except (OSError, subprocess.SubprocessError, ValueError, LookupError) as error:
        raise LauncherError(f"the devices of this machine could not be listed: {error}") from error


def _check_nodes(workers: Sequence[WorkerSpec]) -> None:
    for worker in workers:
        if worker.num_nodes > 1:
            raise LauncherError(
                f"worker {worker.worker}: nodes_per_worker is {worker.num_nodes}; expected 1, "
                "this launcher has one machine (several: launcher slurm, kubernetes or mpi)"
            )


def _check_capacity(workers: Sequence[WorkerSpec], capacity: int, noun: str) -> None:
    num_ranks = sum(worker.num_ranks for worker in workers)
    if num_ranks > capacity and not all(worker.oversubscribe for worker in workers):
        raise LauncherError(
            f"workers: {num_ranks} ranks, expected at most {capacity}, the {noun} of this machine "
            "(or oversubscribe: true)"
        )
