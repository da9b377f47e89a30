"""What is sent to SLURM, as text and arguments; nothing here asks or sends."""

from __future__ import annotations

import dataclasses
import math
import re
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from aibench.api.host import MasterOrder
from aibench.api.launcher import CPU, SIMULATED, Command, WorkerSpec, worker_arguments
from launchers.processes import python_environment
from launchers.slurm_options import SlurmContainer, SlurmOptions
from launchers.slurm_states import FOLDER_NOT_SHARED
from launchers.slurm_templates import ARRAY, GUARD, MASTER, STRIPPED, WORKER

MASTER_LOG = "master.log"
MASTER_VARIABLE = "AIBENCH_SLURM_JOB"
"""Tells a master that the allocation it finds itself in was made for it."""
CLIENT_LOG = "srun.log"
WORKER_LOG = "output.log"
START_UP_S = 1800
"""What a job asks for beyond the measured time."""
MAX_MASTER_RESTARTS = 3
MAX_NAME_LENGTH = 120

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Shape:
    """What a job asks of SLURM: equal nodes."""

    nodes: int
    cpus_per_node: int
    gres: str | None


def label(*parts: str) -> str:
    """A name for jobs and steps that SLURM prints as it is."""
    return _UNSAFE.sub("_", ".".join(parts))[-MAX_NAME_LENGTH:]


def cpus_per_node(worker: WorkerSpec, options: SlurmOptions) -> int:
    """CPUs of a worker on each of its nodes."""
    return options.cpus_per_worker_node or (1 if worker.device == SIMULATED else worker.ranks_per_node)


def _devices_per_node(worker: WorkerSpec) -> int:
    return 0 if worker.device in (CPU, SIMULATED) else worker.ranks_per_node


def job_shape(workers: Sequence[WorkerSpec], options: SlurmOptions) -> Shape:
    """Nodes for a master and all its workers; every node fits the largest of them so many times."""
    places = sum(worker.num_nodes for worker in workers)
    per_node = options.workers_per_node or (math.ceil(places / options.nodes) if options.nodes else 1)
    nodes = options.nodes or max(math.ceil(places / per_node), *(worker.num_nodes for worker in workers))
    cpus = per_node * max(cpus_per_node(worker, options) for worker in workers)
    devices = per_node * max(_devices_per_node(worker) for worker in workers)
    return Shape(
        nodes=nodes + options.spare_nodes,
        cpus_per_node=cpus + options.master_cores,
        gres=_gres(devices, options),
    )


def worker_shape(worker: WorkerSpec, options: SlurmOptions) -> Shape:
    """Nodes of one worker that is a job of its own."""
    return Shape(
        nodes=worker.num_nodes,
        cpus_per_node=cpus_per_node(worker, options),
        gres=_gres(_devices_per_node(worker), options),
    )


def _gres(num_devices: int, options: SlurmOptions) -> str | None:
    return f"{options.gres}:{num_devices}" if options.gres and num_devices else None


def step_command(worker: WorkerSpec, options: SlurmOptions, job: str) -> Command:
    """One worker as a step of a job: one srun, which lives as long as the worker."""
    return Command(
        argv=("srun", f"--jobid={job}", *_step_arguments(worker, options)),
        environment=worker_environment(worker, options),
    )


def worker_environment(worker: WorkerSpec, options: SlurmOptions) -> dict[str, str]:
    """Variables of a worker beyond those it inherits."""
    threads = max(1, cpus_per_node(worker, options) // worker.ranks_per_node)
    return {**_python_environment(options), "OMP_NUM_THREADS": str(threads)}


def _step_arguments(worker: WorkerSpec, options: SlurmOptions) -> tuple[str, ...]:
    shell = WORKER.format(not_shared=FOLDER_NOT_SHARED, prologue=_lines(options.prologue))
    return (
        f"--job-name={label(worker.run, worker.worker)}",
        f"--nodes={worker.num_nodes}",
        f"--ntasks={worker.num_nodes}",
        "--ntasks-per-node=1",
        f"--cpus-per-task={cpus_per_node(worker, options)}",
        *_step_gres(worker, options),
        # Its own cores only, all of the job's memory beside the other steps.
        *("--exact", "--mem=0"),
        # A lost node or rank is this worker's business, never the job's.
        *("--no-kill", "--kill-on-bad-exit=0", "--wait=0"),
        *("--mpi=none", "--export=ALL", "--input=none"),
        *_pyxis(worker, options.container),
        *("/bin/bash", "-c", shell, "aibench-worker", str(worker.log_dir / WORKER_LOG)),
        *_program(worker, options),
    )


def _step_gres(worker: WorkerSpec, options: SlurmOptions) -> tuple[str, ...]:
    """Without a word a step takes all devices of its job, and the next one waits for ever."""
    if not _devices_per_node(worker):
        return ("--gres=none",)
    return (f"--gres={gres}",) if (gres := _gres(worker.ranks_per_node, options)) else ()


def _program(worker: WorkerSpec, options: SlurmOptions) -> tuple[str, ...]:
    arguments = worker_arguments(worker)
    container = options.container
    if container is None:
        return (worker.python or options.python or sys.executable, *arguments)
    inner = (worker.python or options.python or "python3", *arguments)
    if container.runtime == "pyxis":
        return inner
    binds = (f"--bind={mount}" for mount in _mounts(worker, container))
    return ("apptainer", "exec", *binds, *container.options, container.image, *inner)


def _pyxis(worker: WorkerSpec, container: SlurmContainer | None) -> tuple[str, ...]:
    if container is None or container.runtime != "pyxis":
        return ()
    mounts = ",".join(_mounts(worker, container))
    return (f"--container-image={container.image}", f"--container-mounts={mounts}", *container.options)


def _mounts(worker: WorkerSpec, container: SlurmContainer) -> tuple[str, ...]:
    run_dir = worker.control_file.parent
    return (f"{run_dir}:{run_dir}", *container.mounts)


def _python_environment(options: SlurmOptions) -> Mapping[str, str]:
    environment = python_environment()
    if options.container is not None:
        # The image has its own aibench.
        del environment["PYTHONPATH"]
    return environment


def master_script(order: MasterOrder, options: SlurmOptions) -> str:
    """A job with the master in its batch step; the master makes the steps of the workers.

    A master that a signal ended goes on with its run, some times; SIGTERM and SIGINT end the run.
    """
    minutes = _minutes(options.time_limit_s or _default_time_limit_s(order))
    directives = [
        *_directives(label("aibench", order.run), job_shape(order.workers, options), minutes, options),
        "--no-kill",
        "--requeue",
        f"--signal=B:TERM@{options.seal_s}",
        *options.extra_directives,
    ]
    python = sys.executable if options.container else options.python or sys.executable
    command = (python, "-m", "aibench", "master", str(order.run_dir), "--run", order.run)
    return MASTER.format(
        directives=_lines(f"#SBATCH {directive}" for directive in directives),
        log=shlex.quote(str(order.run_dir / MASTER_LOG)),
        not_shared=FOLDER_NOT_SHARED,
        guard=shlex.join(guard_arguments(options)),
        stripped=STRIPPED,
        exports=_exports({**python_environment()}),
        variable=MASTER_VARIABLE,
        prologue=_lines(options.prologue),
        command=shlex.join(command),
        restarts=MAX_MASTER_RESTARTS,
    )


def array_script(workers: Sequence[WorkerSpec], indices: Sequence[int], options: SlurmOptions) -> str:
    """Workers of one pool as the elements of a job array, each by its index in the run."""
    first = workers[0]
    directives = [
        f"--array={','.join(map(str, indices))}",
        *_directives(
            label("aibench", first.run), worker_shape(first, options), _minutes(options.time_limit_s), options
        ),
        # The master starts lost workers again.
        "--no-requeue",
        *options.extra_directives,
    ]
    cases = (
        f"{index})\n  log={shlex.quote(str(worker.log_dir / CLIENT_LOG))}\n"
        f"  step=({shlex.join(_step_arguments(worker, options))}) ;;"
        for index, worker in zip(indices, workers, strict=True)
    )
    return ARRAY.format(
        directives=_lines(f"#SBATCH {directive}" for directive in directives),
        cases=_lines(cases),
        not_shared=FOLDER_NOT_SHARED,
        stripped=STRIPPED,
        exports=_exports(worker_environment(first, options)),
    )


def _directives(name: str, shape: Shape, minutes: int | None, options: SlurmOptions) -> list[str]:
    pairs = {
        "job-name": name,
        "nodes": shape.nodes,
        "ntasks-per-node": 1,
        "cpus-per-task": shape.cpus_per_node,
        "gres": shape.gres,
        "partition": options.partition,
        "account": options.account,
        "qos": options.qos,
        "constraint": options.constraint,
        "reservation": options.reservation,
        "time": minutes,
        # Our scripts open their own logs: no path has to survive in a directive.
        "output": "/dev/null",
        "export": "ALL",
    }
    return [f"--{key}={value}" for key, value in pairs.items() if value is not None]


def _default_time_limit_s(order: MasterOrder) -> float | None:
    return None if order.measured_time_s is None else order.measured_time_s + START_UP_S


def _minutes(seconds: float | None) -> int | None:
    return None if seconds is None else math.ceil(seconds / 60)


def _exports(variables: Mapping[str, str]) -> str:
    return _lines(f"export {name}={shlex.quote(value)}" for name, value in variables.items())


def _lines(texts: Iterable[str]) -> str:
    return "".join(f"{text}\n" for text in texts)


def probe_arguments(path: Path, num_nodes: int) -> tuple[str, ...]:
    """Arguments of srun: every node that does not see the path prints its name."""
    shell = '[ -e "$1" ] || echo "$SLURMD_NODENAME"'
    argv = ("/bin/bash", "-c", shell, "aibench-probe", str(path))
    return everywhere_arguments("aibench-probe", num_nodes, argv)


def guard_arguments(options: SlurmOptions) -> tuple[str, ...]:
    """Arguments of srun, without nodes, for a shell whose argument, the job, follows."""
    cores = (f"--cpus-per-task={options.master_cores}", "--exact")
    return (
        *("--job-name=aibench-guard", "--ntasks-per-node=1"),
        *(cores if options.master_cores else ("--cpus-per-task=1", "--overlap")),
        *(
            "--mem=0",
            "--gres=none",
            "--no-kill",
            "--kill-on-bad-exit=0",
            "--wait=0",
            "--mpi=none",
            "--input=none",
        ),
        *("/bin/bash", "-c", GUARD, "aibench-guard"),
    )


def everywhere_arguments(name: str, num_nodes: int, argv: Sequence[str]) -> tuple[str, ...]:
    """Arguments of srun: a program once on every node of a job, beside whatever runs there."""
    return (
        *(f"--job-name={name}", f"--nodes={num_nodes}", f"--ntasks={num_nodes}", "--ntasks-per-node=1"),
        *("--cpus-per-task=1", "--overlap", "--mem=0", "--gres=none", "--mpi=none", "--input=none"),
        *argv,
    )
