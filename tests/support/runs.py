"""Runs as records: events with given times, sealed and chained as a master would.

``RunBuilder().start().join("w0", ranks=2).barrier().claim("w0", t_s=10).epoch(1, t_s=40).close(1).end()``
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Self

import msgspec

from aibench.api.clock import RankTimes
from aibench.api.events import (
    ClockAnchor,
    Device,
    Division,
    EndReason,
    EpochFinished,
    Event,
    Lineage,
    Outcome,
    RunEnded,
    RunResumed,
    RunStarted,
    StartBarrierOpened,
    TrialClaimed,
    TrialClosed,
    WorkerJoined,
    WorkerLost,
)
from aibench.api.workload import (
    DatasetDescription,
    EpochResult,
    HyperParameters,
    TrialSpec,
    WorkloadDescription,
)
from aibench.architecture import Architecture, Dense, Flatten, Input, Shape
from aibench.architecture.resnet import resnet
from aibench.counting import NetworkCount, count
from aibench.journal import GENESIS, Record
from aibench.journal.record import seal_line

ANCHOR = ClockAnchor(
    utc="2026-01-01T00:00:00.000+00:00", unix_s=1_767_225_600.0, boot_id="boot", monotonic_s=100.0
)
DATASET = DatasetDescription(
    name="pictures",
    train_images=1000,
    validation_images=100,
    input_shape=(1, 2, 2),
    num_classes=2,
    is_synthetic=False,
    fingerprint="0",
)
WORKLOAD = WorkloadDescription(
    name="image_classification",
    dataset=DATASET,
    initial_architecture="tiny",
    precision="fp32",
    departures=(),
)

# 2·4·2 + 25 (softmax) = 41 operations forward, 4·4·2 + 2·5·2 = 52 backward, 4·2 + 2 = 10 parameters.
TINY = Architecture(
    (Input(channels=1, height=2, width=2), Flatten(inputs=(0,)), Dense(inputs=(1,), features=2))
)


def times(
    compute_s: float = 0.0,
    *,
    startup_s: float = 0.0,
    data_wait_s: float = 0.0,
    communication_s: float | None = 0.0,
    validation_s: float = 0.0,
) -> RankTimes:
    """One rank's seconds; the phases not named are empty."""
    return RankTimes(
        startup_s=startup_s,
        compute_s=compute_s,
        data_wait_s=data_wait_s,
        communication_s=communication_s,
        validation_s=validation_s,
    )


class RunBuilder:
    """Appends events to a run. ``t_s`` defaults to the time of the record before.

    Nothing is checked: contradictions are built as easily as runs.
    """

    def __init__(self) -> None:
        self._records: list[Record] = []
        self._t_s = 0.0
        self._num_claimed = 0
        self._joined: dict[str, WorkerJoined] = {}
        self._workers: dict[int, str] = {}
        self._num_epochs: dict[int, int] = {}
        self._parameters: dict[int, int] = {}

    @property
    def records(self) -> tuple[Record, ...]:
        """All records so far."""
        return tuple(self._records)

    def at(self, t_s: float) -> Self:
        """Set the time of the next event."""
        self._t_s = float(t_s)
        return self

    def add(self, event: Event, *, t_s: float | None = None) -> Self:
        """Append any event."""
        if t_s is not None:
            self.at(t_s)
        prev = self._records[-1].hash if self._records else GENESIS
        record, _ = seal_line(seq=len(self._records) + 1, t_s=self._t_s, prev=prev, event=event)
        self._records.append(record)
        return self

    def start(
        self,
        division: Division = Division.OPEN,
        *,
        t_s: float | None = None,
        workload: WorkloadDescription = WORKLOAD,
        **changes: Any,
    ) -> Self:
        """Start the run; ``changes`` are other fields of the event."""
        event = RunStarted(
            run="run",
            aibench_version="0.1.0",
            rules_version="aiperf-v1",
            division=division,
            search_enabled=True,
            search_departures=(),
            seed=1,
            anchor=ANCHOR,
            workload=workload,
            config={"seed": 1},
        )
        return self.add(msgspec.structs.replace(event, **changes), t_s=t_s)

    def resume(self, *, t_s: float | None = None, clock: str = "monotonic") -> Self:
        """A new master goes on."""
        return self.add(RunResumed(anchor=ANCHOR, clock=clock), t_s=t_s)

    def join(
        self, worker: str = "w0", *, ranks: int = 1, incarnation: str = "a", t_s: float | None = None
    ) -> Self:
        """A worker with this many ranks joins."""
        device = Device(kind="cpu", name="cpu", memory_bytes=None)
        event = WorkerJoined(
            worker=worker, incarnation=incarnation, host="node", backend="gloo", devices=(device,) * ranks
        )
        self._joined[worker] = event
        return self.add(event, t_s=t_s)

    def lose(self, worker: str = "w0", *, incarnation: str | None = None, t_s: float | None = None) -> Self:
        """A worker is given up."""
        life = incarnation or self._joined[worker].incarnation
        return self.add(WorkerLost(worker=worker, incarnation=life, reason="silent"), t_s=t_s)

    def barrier(self, *, t_s: float | None = None) -> Self:
        """Trials may be claimed."""
        num = len(self._joined)
        return self.add(StartBarrierOpened(workers=num, wanted_workers=num, timed_out=False), t_s=t_s)

    def claim(
        self,
        worker: str = "w0",
        *,
        t_s: float | None = None,
        trial: int | None = None,
        epochs: int = 1,
        incarnation: str | None = None,
        architecture: Architecture = TINY,
        hyper_parameters: HyperParameters | None = None,
        **changes: Any,
    ) -> Self:
        """Claim the next trial; its operations are those of the architecture unless given in ``changes``."""
        number = trial or self._num_claimed + 1
        self._num_claimed += 1
        self._workers[number] = worker
        counts = _counts(architecture)
        joined = self._joined.get(worker)
        event = TrialClaimed(
            worker=worker,
            incarnation=incarnation or (joined.incarnation if joined else "a"),
            request=f"request-{number}",
            spec=TrialSpec(
                trial=number,
                round=1,
                epochs=epochs,
                architecture=architecture.to_document(),
                hyper_parameters=hyper_parameters or {},
                seed=number,
            ),
            architecture_hash=architecture.content_hash,
            lineage=Lineage(origin="initial"),
            parameters=counts.parameters,
            train_ops=counts.aiperf_ops.train,
            evaluation_ops=counts.aiperf_ops.forward,
        )
        event = msgspec.structs.replace(event, **changes)
        self._parameters[number] = event.parameters
        return self.add(event, t_s=t_s)

    def epoch(
        self,
        trial: int = 1,
        *,
        t_s: float | None = None,
        correct: int = 50,
        ranks: Sequence[RankTimes] | None = None,
        search_wait_s: float = 0.0,
        predicted_error: float | None = None,
        **changes: Any,
    ) -> Self:
        """Finish the trial's next epoch; ``changes`` are other fields of its result."""
        number = self._num_epochs[trial] = self._num_epochs.get(trial, 0) + 1
        joined = self._joined.get(self._workers.get(trial, ""))
        num_ranks = len(joined.devices) if joined else 1
        result = EpochResult(
            epoch=number,
            parameters=self._parameters.get(trial, 0),
            train_images=1000,
            validation_images=100,
            validation_correct=correct,
            train_loss=1.0,
            ranks=tuple(ranks) if ranks is not None else (times(),) * num_ranks,
        )
        result = msgspec.structs.replace(result, **changes)
        event = EpochFinished(
            trial=trial, result=result, search_wait_s=search_wait_s, predicted_error=predicted_error
        )
        return self.add(event, t_s=t_s)

    def close(
        self,
        trial: int = 1,
        outcome: Outcome = Outcome.COMPLETED,
        *,
        t_s: float | None = None,
        reason: str = "",
        unfinished: tuple[int, int] = (0, 0),
        search_error: float | None = None,
    ) -> Self:
        """Close a trial; ``unfinished`` are the train and validation images of the epoch cut off."""
        event = TrialClosed(
            trial=trial,
            outcome=outcome,
            reason=reason,
            unfinished_train_images=unfinished[0],
            unfinished_validation_images=unfinished[1],
            search_error=search_error,
        )
        return self.add(event, t_s=t_s)

    def end(
        self, *, t_s: float | None = None, reason: EndReason = EndReason.TIME_LIMIT, detail: str = ""
    ) -> tuple[Record, ...]:
        """End the run; all its records."""
        return self.add(RunEnded(reason=reason, detail=detail), t_s=t_s).records


def long_run(*, num_trials: int, epochs: int) -> tuple[Record, ...]:
    """A run of one worker that trains ResNet-50s, ten seconds per epoch."""
    network = resnet("resnet50", Shape(3, 224, 224), 1000)
    builder = RunBuilder().start().join().barrier()
    t_s = 1.0
    for trial in range(1, num_trials + 1):
        builder.claim(architecture=network, epochs=epochs, t_s=t_s)
        for _ in range(epochs):
            t_s += 10.0
            builder.epoch(trial, t_s=t_s)
        builder.close(trial)
    return builder.end()


def journal_lines(records: Iterable[Record]) -> list[bytes]:
    """The lines that a writer made of the records, each with its newline."""
    return [
        seal_line(seq=record.seq, t_s=record.t_s, prev=record.prev, event=record.event)[1]
        for record in records
    ]


def write_journal(path: Path, records: Iterable[Record]) -> Path:
    """Write the records as a journal file."""
    path.write_bytes(b"".join(journal_lines(records)))
    return path


@cache
def _counts(architecture: Architecture) -> NetworkCount:
    return count(architecture)
