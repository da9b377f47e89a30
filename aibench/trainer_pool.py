"""Really training a comparison's trials: child processes that keep their data, as many trials at a time.

This process needs no torch. A child (`aibench.worker.trainer`) trains one trial after another in a session of
its own, so that a Ctrl-C reaches this process only, and ends as soon as its input does: none outlives it.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Self, TypeVar

import msgspec

from aibench.api.events import Device
from aibench.api.training import TrainerReady, TrainerSettings, TrialTrained
from aibench.api.workload import EpochResult, HyperParameters, TrialSpec
from aibench.counting import NetworkCount, count
from aibench.errors import TrainerError
from aibench.search.evaluator import ContestTrial, RunningTrial, Training, TrialResult, TrialWork
from aibench.search.search import Candidate

PACKAGE_ROOT = Path(__file__).parents[1]
TRAINER_ARGV = (sys.executable, "-m", "aibench", "trainer")
MAX_FAILURES_IN_ROW = 10
"""Of trials that failed before their first epoch: it is not the candidates' fault."""

Message = TypeVar("Message", bound=msgspec.Struct)


class TrialRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One trained trial, a line of trials.jsonl.

    Attributes:
        ops: Operations that it is charged with.
        processed_ops: Those of the images that it processed.
        error: None if it failed, for the ``reason``.
    """

    algorithm: str
    seed: int
    trial: int
    ops: int
    processed_ops: int
    error: float | None
    reason: str
    train_s: float
    architecture_hash: str
    hyper_parameters: HyperParameters


@dataclass(frozen=True, kw_only=True, slots=True)
class PoolSettings:
    """What the children open, and how many of them there are.

    Attributes:
        warm_up: What every child trains for an epoch before anything is timed.
        log_dir: Existing folder for the output of the children.
    """

    workload: str
    workload_options: dict[str, object]
    device: str
    num_jobs: int
    work: TrialWork
    warm_up: Candidate
    log_dir: Path

    @property
    def num_threads(self) -> int:
        """Threads of each child: the cores that this process may use, shared out."""
        return max(1, len(os.sched_getaffinity(0)) // self.num_jobs)


class TrainerPool:
    """An `Evaluator` that trains. Used as a context; leaving it ends the children.

    Args:
        on_trained: Called with every trial when it has ended, one call at a time, from any thread.

    Raises:
        TrainerError: On entering: a child cannot be started, or cannot open the workload.
    """

    def __init__(self, settings: PoolSettings, on_trained: Callable[[TrialRecord], None]) -> None:
        self._settings = settings
        self._on_trained = on_trained
        self._lock = threading.Lock()
        self._num_failures_in_row = 0
        self._executor = ThreadPoolExecutor(settings.num_jobs)
        self._trainers: list[TrainerProcess] = []
        self._idle: queue.SimpleQueue[TrainerProcess] = queue.SimpleQueue()

    def __enter__(self) -> Self:
        try:
            for position in range(self._settings.num_jobs):
                self._trainers.append(TrainerProcess(self._settings, position))
            for trainer in self._trainers:
                trainer.open(self._settings)
            for trainer in self._trainers:
                trainer.wait_until_ready()
                self._idle.put(trainer)
            self._warm_up()
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    @property
    def devices(self) -> tuple[Device, ...]:
        """The device of each child."""
        return tuple(trainer.device for trainer in self._trainers if trainer.device is not None)

    def begin(self, trial: ContestTrial) -> RunningTrial:
        """Queue the trial; its torch seed is the course's seed plus its number, as in a run.

        The future raises `TrainerError` when the child ended, or ten trials in a row failed at once.
        """
        counts = count(trial.candidate.architecture)
        result = self._executor.submit(self._train, trial, counts)
        return RunningTrial(self._settings.work.ops(counts), result)

    def _warm_up(self) -> None:
        """Have every child train once: its first trial pays for imports and first use of the device."""
        spec = _spec(self._settings.warm_up, number=1, epochs=1, seed=0)
        for warming in [self._executor.submit(trainer.train, spec) for trainer in self._trainers]:
            warming.result()

    def _train(self, trial: ContestTrial, counts: NetworkCount) -> TrialResult:
        spec = _spec(
            trial.candidate,
            number=trial.number,
            epochs=self._settings.work.epochs,
            seed=trial.seed + trial.number,
        )
        trainer = self._idle.get()
        try:
            trained = trainer.train(spec)
        finally:
            self._idle.put(trainer)
        record = self._record(trial, counts, trained)
        with self._lock:
            self._on_trained(record)
            self._count_failures(record, trained)
        return TrialResult(record.error, Training(record.processed_ops, record.train_s))

    def _record(self, trial: ContestTrial, counts: NetworkCount, trained: TrialTrained) -> TrialRecord:
        reason = trained.reason or _miscount(trained.epochs, counts)
        return TrialRecord(
            algorithm=trial.algorithm,
            seed=trial.seed,
            trial=trial.number,
            ops=self._settings.work.ops(counts),
            processed_ops=sum(_epoch_ops(epoch, counts) for epoch in trained.epochs),
            error=None if reason else min(epoch.error for epoch in trained.epochs),
            reason=reason,
            train_s=trained.train_s,
            architecture_hash=trial.candidate.architecture.content_hash,
            hyper_parameters=trial.candidate.hyper_parameters,
        )

    def _count_failures(self, record: TrialRecord, trained: TrialTrained) -> None:
        failed_at_once = record.error is None and not trained.epochs
        self._num_failures_in_row = self._num_failures_in_row + 1 if failed_at_once else 0
        if self._num_failures_in_row >= MAX_FAILURES_IN_ROW:
            raise TrainerError(
                f"{MAX_FAILURES_IN_ROW} trials in a row failed before their first epoch; the last: "
                f"{record.reason}"
            )

    def _close(self) -> None:
        self._executor.shutdown(wait=False, cancel_futures=True)
        for trainer in self._trainers:
            trainer.kill()
        self._executor.shutdown()
        for trainer in self._trainers:
            trainer.close()


class TrainerProcess:
    """One child and its pipes; one thread at a time uses it.

    Raises:
        TrainerError: It cannot be started.
    """

    def __init__(self, settings: PoolSettings, position: int) -> None:
        self.device: Device | None = None
        self._position = position
        self._log = settings.log_dir / f"trainer-{position}.log"
        try:
            with self._log.open("ab") as log:
                self._process = subprocess.Popen(
                    TRAINER_ARGV,
                    env=_environment(settings.num_threads),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    start_new_session=True,
                )
        except OSError as error:
            raise TrainerError(f"trainer {position} could not be started: {error}") from error

    def open(self, settings: PoolSettings) -> None:
        """Have the workload opened.

        Raises:
            TrainerError: The process ended.
        """
        self._send(
            TrainerSettings(
                workload=settings.workload,
                workload_options=settings.workload_options,
                device=settings.device,
                position=self._position,
            )
        )

    def wait_until_ready(self) -> None:
        """Wait until the workload is open.

        Raises:
            TrainerError: It cannot be opened.
        """
        ready = self._receive(TrainerReady)
        if ready.problem:
            raise TrainerError(ready.problem)
        self.device = ready.device

    def train(self, spec: TrialSpec) -> TrialTrained:
        """Train one trial.

        Raises:
            TrainerError: The process ended.
        """
        self._send(spec)
        return self._receive(TrialTrained)

    def kill(self) -> None:
        """End the process and whatever it started: it keeps nothing that would be lost."""
        # Its number is its own until it has been waited for.
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def close(self) -> None:
        """Close the pipes; the process has ended."""
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):
                self._pipe(pipe).close()

    def _send(self, message: msgspec.Struct) -> None:
        pipe = self._pipe(self._process.stdin)
        try:
            pipe.write(msgspec.json.encode(message) + b"\n")
            pipe.flush()
        except (OSError, ValueError) as error:  # its end of the pipe is closed, or ours
            raise self._ended() from error

    def _receive(self, message_type: type[Message]) -> Message:
        line = self._pipe(self._process.stdout).readline()
        if not line.endswith(b"\n"):
            raise self._ended()
        return msgspec.json.decode(line, type=message_type)

    def _ended(self) -> TrainerError:
        status = self._process.wait()
        return TrainerError(f"a training process ended with status {status}; its output is in {self._log}")

    def _pipe(self, pipe: IO[bytes] | None) -> IO[bytes]:
        assert pipe is not None
        return pipe


def _spec(candidate: Candidate, *, number: int, epochs: int, seed: int) -> TrialSpec:
    return TrialSpec(
        trial=number,
        round=1,
        epochs=epochs,
        architecture=candidate.architecture.to_document(),
        hyper_parameters=candidate.hyper_parameters,
        seed=seed,
    )


def _environment(num_threads: int) -> dict[str, str]:
    """This process's own aibench for the child too, whatever lies in the working directory."""
    paths = [str(PACKAGE_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "PYTHONSAFEPATH": "1",
        "PYTHONUNBUFFERED": "1",
        "OMP_NUM_THREADS": str(num_threads),
    }


def _miscount(epochs: Sequence[EpochResult], counts: NetworkCount) -> str:
    """Why these epochs cannot be believed; empty if they can."""
    if not epochs:
        return "no epoch was trained"
    if epochs[-1].parameters != counts.parameters:
        return (
            f"a network of {epochs[-1].parameters} parameters was trained, {counts.parameters} were counted"
        )
    return ""


def _epoch_ops(epoch: EpochResult, counts: NetworkCount) -> int:
    operations = counts.aiperf_ops
    return epoch.train_images * operations.train + epoch.validation_images * operations.forward
