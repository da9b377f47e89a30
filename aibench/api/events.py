"""The typed events of a run's journal: what happened, in the master's words and on the master's clock."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import msgspec

from aibench.api.workload import Count, EpochResult, Positive, TrialSpec, WorkloadDescription


class Division(StrEnum):
    """What a run asks to be judged as."""

    CLOSED = "closed"
    OPEN = "open"
    SMOKE = "smoke"


class Outcome(StrEnum):
    """How a trial ended."""

    COMPLETED = "completed"
    FAILED = "failed"
    """The trial itself is at fault: exception, loss not finite, nothing processed."""
    LOST = "lost"
    """Its worker vanished; finished epochs stand."""
    INTERRUPTED = "interrupted"
    """The run ended first; finished epochs stand."""
    STOPPED = "stopped"
    """The search gave it up before its last epoch; finished epochs stand."""

    @property
    def scores(self) -> bool:
        """Whether the finished epochs of such a trial count."""
        return self is not Outcome.FAILED


class EndReason(StrEnum):
    """Why a run ended."""

    TIME_LIMIT = "time_limit"
    TRIAL_LIMIT = "trial_limit"
    SIGNAL = "signal"
    NO_WORKERS = "no_workers"
    FAILURES = "failures"
    UNFIT = "unfit"
    """A worker that can take no part appeared before the start: the detail says why."""


class _Event(
    msgspec.Struct, frozen=True, gc=False, kw_only=True, tag_field="event", forbid_unknown_fields=True
):
    pass


class ClockAnchor(msgspec.Struct, frozen=True, gc=False, kw_only=True, forbid_unknown_fields=True):
    """One instant on three clocks, so that a resumed run can place itself on the same axis."""

    utc: str
    unix_s: float
    boot_id: str
    monotonic_s: float


class RunStarted(_Event, frozen=True, tag="run_started"):
    """First event. ``config`` is the resolved configuration."""

    run: str
    aibench_version: str
    rules_version: str
    division: Division
    search_enabled: bool
    search_departures: tuple[str, ...]
    seed: int
    anchor: ClockAnchor
    workload: WorkloadDescription
    config: dict[str, Any]


class RunResumed(_Event, frozen=True, tag="run_resumed"):
    """A new master took the run over; its time axis continues the old one by ``clock``."""

    anchor: ClockAnchor
    clock: str


class Device(msgspec.Struct, frozen=True, gc=False, kw_only=True, forbid_unknown_fields=True):
    """The device of one rank."""

    kind: str
    name: str
    memory_bytes: Count | None


class WorkerJoined(_Event, frozen=True, tag="worker_joined"):
    """A worker's gang is up. A new incarnation of a known worker replaces the old one."""

    worker: str
    incarnation: str
    host: str
    backend: str
    devices: tuple[Device, ...]


class WorkerLost(_Event, frozen=True, tag="worker_lost"):
    """A worker stopped answering or was found dead."""

    worker: str
    incarnation: str
    reason: str


class StartBarrierOpened(_Event, frozen=True, tag="start_barrier_opened"):
    """Trials may be claimed from now on."""

    workers: Positive
    wanted_workers: Positive
    timed_out: bool


class Lineage(msgspec.Struct, frozen=True, gc=False, kw_only=True, forbid_unknown_fields=True):
    """Where an architecture comes from.

    Attributes:
        origin: The search that made it.
        parent: Content hash of the network that it was morphed from, as that was trained.
        morphs: What was done to the parent, in order.
        predicted_error: Validation error that the search expected before training; None if it predicts none.
    """

    origin: str
    parent: str | None = None
    morphs: tuple[str, ...] = ()
    predicted_error: Annotated[float, msgspec.Meta(ge=0.0, le=1.0)] | None = None


class TrialClaimed(_Event, frozen=True, tag="trial_claimed"):
    """A trial was leased to a worker. Operations are per image, rule set of the run."""

    worker: str
    incarnation: str
    request: str
    spec: TrialSpec
    architecture_hash: str
    lineage: Lineage
    parameters: Count
    train_ops: Positive
    evaluation_ops: Positive


class EpochFinished(_Event, frozen=True, tag="epoch_finished"):
    """An epoch was trained and validated.

    ``predicted_error`` is the best error that the curve so far promises for the trial's last epoch; the score
    never reads it.
    """

    trial: Positive
    result: EpochResult
    search_wait_s: float
    predicted_error: float | None = None


class TrialClosed(_Event, frozen=True, tag="trial_closed"):
    """A trial's lease ended.

    Unfinished images are those of the epoch that was cut off, as last heard from the worker; they never
    score. ``search_error`` is what the search was told instead of the best error; the score never reads it.
    """

    trial: Positive
    outcome: Outcome
    reason: str
    unfinished_train_images: Count
    unfinished_validation_images: Count
    search_error: float | None = None


class RunEnded(_Event, frozen=True, tag="run_ended"):
    """Last event; its record's hash is the seal of the run."""

    reason: EndReason
    detail: str


Event = (
    RunStarted
    | RunResumed
    | WorkerJoined
    | WorkerLost
    | StartBarrierOpened
    | TrialClaimed
    | EpochFinished
    | TrialClosed
    | RunEnded
)
