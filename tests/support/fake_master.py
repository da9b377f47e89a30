"""A coordinator with a clock that tests turn by hand and a journal in memory, and the messages to it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.fake_workload import FakeOptions, FakeWorkload, make_config, make_resolved

from aibench import __version__
from aibench.api.clock import RankTimes
from aibench.api.events import ClockAnchor, Device, Event, Outcome, RunResumed, RunStarted
from aibench.api.protocol import (
    Acknowledgement,
    ClaimReply,
    ClaimRequest,
    EnlistReply,
    EnlistRequest,
    EpochRequest,
    FinishRequest,
    HeartbeatRequest,
    HistoryReply,
    HistoryRequest,
    JoinReply,
    JoinRequest,
)
from aibench.api.workload import EpochResult, TrialSpec
from aibench.config import ResolvedRun, RunConfig
from aibench.counting import RULES_VERSION, count
from aibench.errors import ProtocolError
from aibench.journal import GENESIS, Record
from aibench.journal.record import seal_line
from aibench.master.coordinator import Coordinator
from aibench.master.weights import KeptWeights
from aibench.score.history import RunHistory
from aibench.search.search import Search

ANCHOR = ClockAnchor(utc="2026-01-01T00:00:00Z", unix_s=1767225600.0, boot_id="boot", monotonic_s=0.0)


INITIAL_PARAMETERS = count(FakeWorkload(FakeOptions()).initial_architecture()).parameters


def make_search(resolved: ResolvedRun) -> Search:
    return Search(
        resolved.config.search,
        resolved.initial,
        space=resolved.space,
        specialise=resolved.workload.specialise,
        seed=resolved.config.seed,
        memory=resolved.memory,
        num_workers=resolved.config.num_workers,
    )


def run_started(resolved: ResolvedRun) -> RunStarted:
    return RunStarted(
        run="run",
        aibench_version="0",
        rules_version=RULES_VERSION,
        division=resolved.config.division,
        search_enabled=resolved.config.search.is_enabled,
        search_departures=resolved.config.search.departures,
        seed=resolved.config.seed,
        anchor=ANCHOR,
        workload=resolved.description,
        config=resolved.document,
    )


def join_request(worker: str = "w0", life: str = "a", num_ranks: int = 1, **changes: Any) -> JoinRequest:
    device = Device(kind="cpu", name="cpu", memory_bytes=None)
    values: dict[str, Any] = {"host": "node", "version": __version__, "unix_s": time.time(), **changes}
    return JoinRequest(
        worker=worker, incarnation=life, backend="gloo", devices=(device,) * num_ranks, **values
    )


def epoch_result(epoch: int, **changes: Any) -> EpochResult:
    times = RankTimes(startup_s=0.0, compute_s=1.0, data_wait_s=0.0, communication_s=None, validation_s=0.5)
    values: dict[str, Any] = {
        "epoch": epoch,
        "parameters": INITIAL_PARAMETERS,
        "train_images": 100,
        "validation_images": 20,
        "validation_correct": 15,
        "train_loss": 0.5,
        "ranks": (times,),
    }
    return EpochResult(**{**values, **changes})


class FakeMaster:
    """One life of the master; `restart` makes the next from the records alone."""

    def __init__(
        self,
        config: RunConfig | None = None,
        *,
        before: FakeMaster | None = None,
        resolved: ResolvedRun | None = None,
        weights_dir: Path = Path("weights"),
    ) -> None:
        made = resolved or make_resolved(config or make_config())
        self.resolved: ResolvedRun = before.resolved if before else made
        self.records: list[Record] = list(before.records) if before else []
        self.t_s: float = before.t_s if before else 0.0
        self.history = RunHistory.of(self.records)
        self.record(RunResumed(anchor=ANCHOR, clock="monotonic") if before else run_started(self.resolved))
        inherits = self.resolved.config.search.inherit_weights
        self.coordinator = Coordinator(
            self.resolved,
            self.history,
            make_search(self.resolved),
            self.record,
            lambda: self.t_s,
            pools={"p0": ["w0", "w1"]},
            weights=KeptWeights(weights_dir, self.history) if inherits else None,
        )

    def restart(self) -> FakeMaster:
        return FakeMaster(before=self)

    def record(self, event: Event) -> None:
        prev = self.records[-1].hash if self.records else GENESIS
        record, _ = seal_line(seq=len(self.records) + 1, t_s=self.t_s, prev=prev, event=event)
        self.records.append(record)
        self.history.apply(record)

    @property
    def events(self) -> list[Event]:
        return [record.event for record in self.records]

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    # What workers say ---------------------------------------------------------------------------------

    def enlist(self, place: str, pool: str = "p0") -> EnlistReply:
        return self.coordinator.enlist(EnlistRequest(pool=pool, place=place))

    def join(self, worker: str = "w0", life: str = "a", num_ranks: int = 1, **changes: Any) -> JoinReply:
        return self.coordinator.join(join_request(worker, life, num_ranks, **changes))

    def claim(self, worker: str = "w0", life: str = "a", request: str = "r1") -> ClaimReply:
        return self.coordinator.claim(ClaimRequest(worker=worker, incarnation=life, request=request))

    def lease(self, worker: str = "w0", life: str = "a", request: str = "r1") -> TrialSpec:
        spec = self.claim(worker, life, request).spec
        assert spec is not None
        return spec

    def epoch(
        self, trial: int, epoch: int, worker: str = "w0", life: str = "a", **changes: Any
    ) -> Acknowledgement:
        if trial in self.history.trials:
            changes = {"parameters": self.history.trials[trial].claimed.parameters, **changes}
        request = EpochRequest(
            worker=worker, incarnation=life, trial=trial, result=epoch_result(epoch, **changes)
        )
        return self.coordinator.epoch(request)

    def finish(
        self, trial: int, outcome: Outcome, worker: str = "w0", life: str = "a", **values: Any
    ) -> Acknowledgement:
        request = FinishRequest(worker=worker, incarnation=life, trial=trial, outcome=outcome, **values)
        return self.coordinator.finish(request)

    def complete(self, trial: int, worker: str = "w0", life: str = "a", **changes: Any) -> None:
        for epoch in range(1, self.history.trials[trial].claimed.spec.epochs + 1):
            self.t_s += 1.0
            self.epoch(trial, epoch, worker, life, **changes)
        self.finish(trial, Outcome.COMPLETED, worker, life)

    def heartbeat(
        self, trial: int | None = None, worker: str = "w0", life: str = "a", **images: int
    ) -> Acknowledgement:
        return self.coordinator.heartbeat(
            HeartbeatRequest(worker=worker, incarnation=life, trial=trial, **images)
        )

    def history_since(self, since: int, worker: str = "w0", life: str = "a") -> HistoryReply:
        return self.coordinator.history_since(HistoryRequest(worker=worker, incarnation=life, since=since))


def one_worker(**sections: Any) -> FakeMaster:
    """A master whose only worker has joined, so that trials may be claimed."""
    master = FakeMaster(make_config(workers=[{"count": 1}], **sections))
    master.join()
    return master


def refused(status: int, action: Callable[..., object], *arguments: Any, **values: Any) -> ProtocolError:
    """Do what the master must refuse with this status; its refusal."""
    with pytest.raises(ProtocolError) as refusal:
        action(*arguments, **values)
    assert refusal.value.status == status
    return refusal.value
