"""The messages between a worker and the master: JSON over HTTP, typed, idempotent.

Every request names its worker and incarnation (one life of the worker's gang), so that the master can tell a
retry from a stranger. `ROUTES` is the whole service.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from aibench.api.events import Device, Lineage, Outcome
from aibench.api.workload import Count, EpochResult, Positive, TrialSpec
from aibench.architecture.graph import ArchitectureDocument

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
Text = Annotated[str, msgspec.Meta(max_length=2000)]


class ControlAddress(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to reach the master: written by it with file mode 0600, read by workers at every (re)connect."""

    url: str
    token: str


class _Message(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class _Request(_Message, frozen=True):
    worker: Name
    incarnation: Name


class EnlistRequest(_Message, frozen=True):
    """A place is up and asks which worker of its pool it shall be. ``place`` is its own host name."""

    pool: Name
    place: Name


class EnlistReply(_Message, frozen=True):
    """The worker to be, the same one for the same place; or a pause before asking again; or the end."""

    worker: str | None = None
    retry_after_s: float | None = None
    stop: bool = False


class JoinRequest(_Request, frozen=True):
    """A gang is up; it opens its data next.

    Attributes:
        version: Release of aibench on the worker's side.
        unix_s: Wall clock of the worker's host when it sent this.
    """

    host: Name
    version: Name
    unix_s: float
    backend: Name
    devices: Annotated[tuple[Device, ...], msgspec.Meta(min_length=1, max_length=65536)]


class SearchBrief(_Message, frozen=True):
    """What a worker needs to search for networks beside the master.

    Attributes:
        initial: The network that the search starts from. Like all networks that searches compare, it is
            without what hyper-parameters make of it.
        max_morphs: Most morphs between a parent and its child.
        max_train_ops: Most training operations per image of a child.
        morphs: Kinds of morphs to draw, by name.
        seed: The run's own.
    """

    algorithm: Literal["evolution", "network_morphism"]
    initial: ArchitectureDocument
    max_morphs: Positive
    max_train_ops: float
    morphs: tuple[str, ...]
    seed: int


class JoinReply(_Message, frozen=True):
    """What the gang shall train, how often it must be heard, how long it may be on its own.

    ``weights_dir``: folder of trained weights, on a file system that all workers and the master share; None
    if no trial inherits.
    ``search``: what it shall search for on idle cores while it trains; None for nothing.
    """

    run: str
    workload: str
    workload_options: dict[str, Any]
    heartbeat_s: float
    master_timeout_s: float
    search: SearchBrief | None = None
    stop: bool = False
    weights_dir: str | None = None


class ClaimRequest(_Request, frozen=True):
    """Ask for a trial. While it is open, the same ``request`` gets the same trial."""

    request: Name


class ClaimReply(_Message, frozen=True):
    """A trial, or a pause before asking again, or the end of the run."""

    spec: TrialSpec | None = None
    retry_after_s: float | None = None
    stop: bool = False


class EpochRequest(_Request, frozen=True):
    """An epoch is finished. ``search_wait_s``: time its trial's ranks waited for the claim."""

    trial: Positive
    result: EpochResult
    search_wait_s: Annotated[float, msgspec.Meta(ge=0)] = 0.0


class FinishRequest(_Request, frozen=True):
    """A trial ended: completed, failed, or stopped as the master asked."""

    trial: Positive
    outcome: Outcome
    reason: Text = ""
    unfinished_train_images: Count = 0
    unfinished_validation_images: Count = 0


class HeartbeatRequest(_Request, frozen=True):
    """The gang is alive; the images of the epoch in progress, should it never finish."""

    trial: Positive | None = None
    train_images: Count = 0
    validation_images: Count = 0


class Acknowledgement(_Message, frozen=True):
    """Received and durable.

    ``stop``: the run is over, no later event will be taken. ``stop_trial``: the search gives the trial up; it
    ends with the epoch in progress.
    """

    stop: bool = False
    stop_trial: bool = False


class Refusal(_Message, frozen=True):
    """Body of every answer with a status of 4xx. ``must_join``: join (again), then speak."""

    error: str
    must_join: bool = False


class ProposeRequest(_Request, frozen=True):
    """An architecture found on a worker's CPU.

    Attributes:
        lineage: Its parent is named by the hash that it has in the history.
        bound: Validation error that the search hopes for; the least is tried first.
        num_known: Closed trials that the search had learned from: ``next_since`` of the last `HistoryReply`.
    """

    architecture: ArchitectureDocument
    lineage: Lineage
    bound: float
    num_known: Count


class ProposeReply(_Message, frozen=True):
    """Whether the proposal went into the pool; if not, why. ``stop``: the run is over."""

    accepted: bool
    reason: str = ""
    stop: bool = False


class HistoryRequest(_Request, frozen=True):
    """Ask what became of the trials, after the first ``since`` closed ones."""

    since: Count


class HistoryEntry(_Message, frozen=True):
    """A finished trial, as a proposer needs it: the network and the error as the search was told."""

    trial: int
    architecture: ArchitectureDocument
    error: float | None


class HistoryReply(_Message, frozen=True):
    """Some of the trials that were closed after ``since``.

    Attributes:
        next_since: Where to ask on; as asked, if there was nothing new.
        wants_proposal: Whether the pool has room for one.
        pause_s: Time to let pass before the next proposal or, where none is wanted, the next question.
        stop: The run is over.
    """

    entries: tuple[HistoryEntry, ...]
    next_since: int
    wants_proposal: bool
    pause_s: float
    stop: bool = False


ROUTES: dict[str, tuple[type[msgspec.Struct], type[msgspec.Struct]]] = {
    "/v1/enlist": (EnlistRequest, EnlistReply),
    "/v1/join": (JoinRequest, JoinReply),
    "/v1/claim": (ClaimRequest, ClaimReply),
    "/v1/epoch": (EpochRequest, Acknowledgement),
    "/v1/finish": (FinishRequest, Acknowledgement),
    "/v1/heartbeat": (HeartbeatRequest, Acknowledgement),
    "/v1/propose": (ProposeRequest, ProposeReply),
    "/v1/history": (HistoryRequest, HistoryReply),
}
