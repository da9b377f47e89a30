"""What users write under ``launcher:`` for SLURM."""

from __future__ import annotations

import re
from typing import Literal

import msgspec

_WORD = re.compile(r"[^\s'\"\\#`$;]+")
"""What stands unquoted in a directive and keeps its meaning."""


class SlurmContainer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The image that workers run in; the master runs beside it, where srun is.

    Attributes:
        runtime: ``apptainer`` (a program on the nodes) or ``pyxis`` (SLURM's plug-in with enroot).
        image: What the runtime takes: a file, a sandbox, a registry reference.
        mounts: Folders to show inside, ``SOURCE:TARGET``; the run folder is among them by itself.
        options: Further options of the runtime, such as ``--nv``.
    """

    runtime: Literal["apptainer", "pyxis"]
    image: str
    mounts: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


class SlurmOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Keys of the section ``launcher`` with ``name: slurm``; what is absent is SLURM's own default.

    Attributes:
        time_limit_s: Of every job that is submitted. By default a master with a limit of measured time asks
            for that and half an hour more.
        gres: Generic resource of one rank, without a count: ``gpu``, ``gpu:h100``, ``npu``.
        nodes: Nodes of the job; by default as many as ``workers_per_node`` needs.
        workers_per_node: Worker places on a node, 1 by default; by ``nodes`` if that is given.
        spare_nodes: Nodes more than needed, for workers of lost ones.
        cpus_per_worker_node: CPUs of a worker on each of its nodes; one per rank by default, one on
            simulated devices.
        master_cores: CPUs of each node that no worker gets; on the first one the master uses them.
        extra_directives: Further options of sbatch, such as ``--mem=0`` or ``--exclusive``.
        prologue: Shell lines before the master and before each worker, such as ``module load cuda``.
        python: Interpreter on the nodes; the present one by default, ``python3`` in a container.
        master: Where it runs. ``auto``: in the allocation if there is one, else in a job of its own; ``job``:
            in a job of its own; ``here``: in this process, workers outside an allocation as jobs.
        seal_s: So long before the end of its time the master is told to end the run.
    """

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    reservation: str | None = None
    time_limit_s: int | None = None
    gres: str | None = None
    nodes: int | None = None
    workers_per_node: int | None = None
    spare_nodes: int = 0
    cpus_per_worker_node: int | None = None
    master_cores: int = 1
    extra_directives: tuple[str, ...] = ()
    prologue: tuple[str, ...] = ()
    container: SlurmContainer | None = None
    python: str | None = None
    master: Literal["auto", "job", "here"] = "auto"
    seal_s: int = 120

    def __post_init__(self) -> None:
        for key in ("partition", "account", "qos", "constraint", "reservation", "gres"):
            value = getattr(self, key)
            if value is not None and not _WORD.fullmatch(value):
                raise ValueError(f"{key} is {value!r}; expected a name without spaces and quotes")
        for key, least in _LEAST.items():
            value = getattr(self, key)
            if value is not None and value < least:
                raise ValueError(f"{key} is {value}; expected at least {least}")
        if self.gres and self.gres.rpartition(":")[2].isdigit():
            raise ValueError(
                f"gres is {self.gres!r}; expected it without a count, which is the ranks per node"
            )
        if self.nodes and self.workers_per_node:
            raise ValueError("nodes and workers_per_node are both given; expected one of them")
        for directive in self.extra_directives:
            if not directive.startswith("-") or not directive.isprintable():
                raise ValueError(
                    f"extra_directives has {directive!r}; expected one option, such as '--mem=0'"
                )


_LEAST = {
    "time_limit_s": 1,
    "nodes": 1,
    "workers_per_node": 1,
    "spare_nodes": 0,
    "cpus_per_worker_node": 1,
    "master_cores": 0,
    "seal_s": 1,
}
