"""Which one this process is of those that an engine started together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from aibench.errors import LauncherError

NODE_RANK_VARIABLE = "AIBENCH_NODE_RANK"
"""Set by an engine that has no numbers of its own: which of its gang's nodes this is."""
SLURM = "SLURM"


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """One process among those started together.

    Attributes:
        engine: Who said so.
        size: How many there are, if it was said.
        local_rank: Its number among those of its node, if it was said.
        life: What tells these processes from an earlier start of them; empty if nothing does.
    """

    engine: str
    rank: int
    size: int | None = None
    local_rank: int | None = None
    life: str = ""


@dataclass(frozen=True, slots=True)
class _Dialect:
    """Names of an engine's variables; without rank or, where it has one, size, it did not start us."""

    engine: str
    rank: str
    size: str | None = None
    local_rank: str | None = None
    life: tuple[str, ...] = ()

    def read(self, environment: Mapping[str, str]) -> Place | None:
        rank, size = _number(environment, self.rank), _number(environment, self.size)
        if rank is None or (self.size is not None and size is None):
            return None
        return Place(
            engine=self.engine,
            rank=rank,
            size=size,
            local_rank=_number(environment, self.local_rank),
            life=".".join(environment[name] for name in self.life if name in environment),
        )


_OPEN_MPI = _Dialect(
    "Open MPI",
    "OMPI_COMM_WORLD_RANK",
    "OMPI_COMM_WORLD_SIZE",
    "OMPI_COMM_WORLD_LOCAL_RANK",
    ("PMIX_NAMESPACE",),
)
# MPICH, Intel MPI, MVAPICH, and srun --mpi=pmi2.
_PMI = _Dialect("PMI", "PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", ("PMI_JOBID",))
_SLURM_STEP = _Dialect(
    SLURM,
    "SLURM_PROCID",
    "SLURM_STEP_NUM_TASKS",
    "SLURM_LOCALID",
    ("SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_RESTART_COUNT"),
)
_PMIX = _Dialect("PMIx", "PMIX_RANK", life=("PMIX_NAMESPACE",))


def find_place(environment: Mapping[str, str]) -> Place | None:
    """This process' place, or None if it was started alone.

    Under SLURM, the daemons of mpirun are tasks of a step, whose variables the processes inherit: SLURM is
    believed only where MPI says the same or nothing.
    """
    by_pmi, in_step = _PMI.read(environment), _SLURM_STEP.read(environment)
    if place := _OPEN_MPI.read(environment):
        return place
    if in_step and (by_pmi is None or (by_pmi.rank, by_pmi.size) == (in_step.rank, in_step.size)):
        return in_step
    return by_pmi or _PMIX.read(environment) or _ask_mpi()


def node_place(environment: Mapping[str, str], num_nodes: int) -> Place:
    """Which node of its gang this is, where the engine started one process on each.

    Raises:
        LauncherError: It cannot be told, or the engine started another number of processes.
    """
    if (given := environment.get(NODE_RANK_VARIABLE)) is not None:
        if not given.isdecimal() or int(given) >= num_nodes:
            raise LauncherError(
                f"{NODE_RANK_VARIABLE}: got {given!r}; expected 0 to {num_nodes - 1} for a worker on "
                f"{num_nodes} nodes"
            )
        return Place(engine=NODE_RANK_VARIABLE, rank=int(given), size=num_nodes)
    place = find_place(environment)
    if place is None:
        raise LauncherError(
            f"a worker on {num_nodes} nodes is started once on each of them, by mpirun or srun, or with "
            f"{NODE_RANK_VARIABLE} set; neither is the case"
        )
    if place.size not in (None, num_nodes):
        raise LauncherError(
            f"{place.engine} started {place.size} process(es) for a worker on {num_nodes} nodes; expected "
            "one on each"
        )
    return place


def _ask_mpi() -> Place | None:
    """What MPI itself says, if it can be asked; it is left again, as this process becomes another program."""
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError):
        return None
    world = MPI.COMM_WORLD
    rank, size = world.Get_rank(), world.Get_size()
    MPI.Finalize()
    # Alone, it cannot be told from a process that mpirun did not start.
    return Place(engine="MPI", rank=rank, size=size) if size > 1 else None


def _number(environment: Mapping[str, str], name: str | None) -> int | None:
    text = environment.get(name, "") if name is not None else ""
    return int(text) if text.isdecimal() else None
