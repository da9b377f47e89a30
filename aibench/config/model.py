"""What a configuration file may say. Sections of plugins are checked by the plugin's own options."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from aibench.api.events import Division
from aibench.search.config import SearchConfig

MAX_INT = 2**53
PositiveInt = Annotated[int, msgspec.Meta(ge=1, le=MAX_INT)]
NonNegativeInt = Annotated[int, msgspec.Meta(ge=0, le=MAX_INT)]
Crowd = Annotated[int, msgspec.Meta(ge=1, le=8192)]
Gang = Annotated[int, msgspec.Meta(ge=1, le=1024)]
Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]
MAX_HEARTBEATS_PER_S = 200
"""Of all workers together, as far as the lease allows: they leave the master no time for trials."""
MIN_HEARTBEATS_PER_LEASE = 3
YEAR_S = 366 * 86400
PositiveSeconds = Annotated[float, msgspec.Meta(gt=0, le=YEAR_S)]
# Ranks of a gang wait at most 1,800 s for each other, and all of them wait while rank 0 does.
PatientSeconds = Annotated[float, msgspec.Meta(gt=0, le=1500)]
WILDCARD_HOSTS = ("0.0.0.0", "::")  # noqa: S104 - refused, not bound


class _Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class WorkerGroup(_Section, frozen=True):
    """Workers of one kind.

    Attributes:
        count: How many.
        ranks: Processes of each, one per device.
        nodes_per_worker: Nodes that each spans, with equally many of its ranks on every one.
        device: ``cpu``, ``auto`` (accelerators if there are any, else the CPU), ``simulated`` (no device, for
            workloads that need none), or a device type of torch.
        oversubscribe: Allow more ranks than devices.
    """

    count: Crowd = 1
    ranks: Gang = 1
    nodes_per_worker: Gang = 1
    device: Annotated[str, msgspec.Meta(min_length=1)] = "auto"
    oversubscribe: bool = False

    def __post_init__(self) -> None:
        if self.ranks % self.nodes_per_worker:
            raise ValueError(
                f"ranks {self.ranks} cannot be shared evenly by nodes_per_worker {self.nodes_per_worker}"
            )


class Limits(_Section, frozen=True):
    """When a run ends, whichever comes first.

    Attributes:
        measured_time_s: Seconds from the first trial's start.
        trials: Number of trials.
    """

    measured_time_s: PositiveSeconds | None = None
    trials: PositiveInt | None = None

    def __post_init__(self) -> None:
        if self.measured_time_s is None and self.trials is None:
            raise ValueError("give measured_time_s, trials or both: a run must end")


class StartBarrier(_Section, frozen=True):
    """When trials may be claimed: as soon as enough workers joined, or after a time with fewer.

    Attributes:
        min_workers: None for all.
    """

    min_workers: PositiveInt | None = None
    timeout_s: PatientSeconds = 300.0


class EpochBudget(_Section, frozen=True):
    """Epochs of a trial by its worker's round: one entry per warm-up round, then ``full``."""

    warmup: tuple[PositiveInt, ...] = (15, 30, 45)
    full: PositiveInt = 60

    def epochs(self, round_number: int) -> int:
        """Epochs of a worker's n-th trial, from 1."""
        return self.warmup[round_number - 1] if round_number <= len(self.warmup) else self.full


class Control(_Section, frozen=True):
    """The control service.

    Attributes:
        host: Address to bind, which the workers can reach; None for the launcher's choice.
        port: 0 for any free one.
        heartbeat_s: Period of a worker's signs of life; many workers are told a longer one.
        lease_s: Silence after which a worker counts as lost.
        master_timeout_s: How long workers keep training and trying while the master is away.
    """

    host: Annotated[str, msgspec.Meta(min_length=1)] | None = None
    port: Port = 0
    heartbeat_s: PositiveSeconds = 5.0
    lease_s: PositiveSeconds = 60.0
    master_timeout_s: PatientSeconds = 600.0

    def __post_init__(self) -> None:
        if self.host in WILDCARD_HOSTS:
            raise ValueError(f"host {self.host!r} names no address; give one that the workers can reach")
        if self.lease_s < MIN_HEARTBEATS_PER_LEASE * self.heartbeat_s:
            raise ValueError(
                f"lease_s {self.lease_s:g} must be at least three times heartbeat_s {self.heartbeat_s:g}"
            )


class Stage(_Section, frozen=True):
    """What is copied to the nodes' local disks before the clock starts.

    Attributes:
        directory: Folder on the local disk of every node; None to stage nothing.
        data: Copy the folder ``workload.data_dir``.
        environment: Copy the virtual environment of this Python and run the workers from there.
        archive: Folder for the packed files, on a file system that all nodes share; kept, so that another run
            need not pack again. None for the run folder.
    """

    directory: str | None = None
    data: bool = True
    environment: bool = False
    archive: str | None = None

    def __post_init__(self) -> None:
        for key, path in (("directory", self.directory), ("archive", self.archive)):
            if path is not None and not path.startswith("/"):
                raise ValueError(f"{key} is {path!r}; expected an absolute path")


class RunConfig(_Section, frozen=True):
    """A whole configuration.

    Attributes:
        name: Starts the name of the run's folder.
        workload: ``name`` and the options of that workload.
        launcher: ``name`` and the options of that launcher.
    """

    name: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    division: Division
    workload: dict[str, Any]
    limits: Limits
    seed: NonNegativeInt = 1
    workers: Annotated[tuple[WorkerGroup, ...], msgspec.Meta(min_length=1)] = (WorkerGroup(),)
    launcher: dict[str, Any] = msgspec.field(default_factory=lambda: {"name": "local"})
    start: StartBarrier = StartBarrier()
    epochs: EpochBudget = EpochBudget()
    search: SearchConfig = SearchConfig()
    control: Control = Control()
    stage: Stage = Stage()

    @property
    def num_workers(self) -> int:
        """Workers of all groups."""
        return sum(group.count for group in self.workers)

    @property
    def heartbeat_s(self) -> float:
        """Period of heartbeats in force: as configured, or longer if there are many workers."""
        bearable_s = self.num_workers / MAX_HEARTBEATS_PER_S
        longest_s = self.control.lease_s / MIN_HEARTBEATS_PER_LEASE
        return max(self.control.heartbeat_s, min(bearable_s, longest_s))
