"""Thousands of simulated workers in one process: the protocol alone, one kept connection each.

A worker does what a real one does, at the same moments: it claims the next trial while the last epoch of the
present one runs, and its messages go one after another. Only time is shorter.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar

import httpx
import msgspec

from aibench import __version__
from aibench.api.clock import RankTimes
from aibench.api.events import Device, Outcome
from aibench.api.protocol import (
    Acknowledgement,
    ClaimReply,
    ClaimRequest,
    ControlAddress,
    EpochRequest,
    FinishRequest,
    HeartbeatRequest,
    JoinReply,
    JoinRequest,
)
from aibench.api.workload import EpochResult, TrialSpec
from aibench.counting import count
from workloads.synthetic import SyntheticOptions
from workloads.synthetic.curve import ErrorCurve

Result = TypeVar("Result")
Reply = TypeVar("Reply", bound=msgspec.Struct)

JOINS_PER_S = 500
TRIAL_SPREAD = 0.5
"""Trials take their nominal time times 1 ± this, evenly."""
DEVICES = (Device(kind="simulated", name="simulated", memory_bytes=None),)


@dataclass(slots=True)
class Findings:
    """What the workers saw, in real seconds of this process.

    Attributes:
        busy_s: Of all workers, in trials.
        lost_s: Of all workers, between the end of a trial and the start of the next.
        problems: Whatever went wrong beside the workers' main course.
    """

    claims_s: list[float] = field(default_factory=list)
    num_requests: int = 0
    num_trials: int = 0
    busy_s: float = 0.0
    lost_s: float = 0.0
    problems: list[BaseException] = field(default_factory=list)


class RawConnection(asyncio.Protocol):
    """HTTP/1.1 with one request at a time, as little of it as the master's answers need."""

    def __init__(self, head: str) -> None:
        self._head = head
        self._waiting: deque[asyncio.Future[bytes]] = deque()
        self._received = bytearray()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, body = bytes(self._received).partition(b"\r\n\r\n")
        if not found:
            return
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        if len(body) < length:
            return
        self._received.clear()
        answer = self._waiting.popleft()
        if answer.done():  # nobody waits any more
            return
        if head.startswith(b"HTTP/1.1 200"):
            answer.set_result(body)
        else:
            answer.set_exception(AssertionError(f"{head!r} {body!r}"))

    def connection_lost(self, reason: Exception | None) -> None:
        for answer in self._waiting:
            if not answer.done():
                answer.set_exception(ConnectionError("the master hung up"))

    def post(self, path: str, body: bytes) -> asyncio.Future[bytes]:
        assert self._transport is not None
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting.append(answer)
        head = f"POST {path} HTTP/1.1\r\n{self._head}Content-Length: {len(body)}\r\n\r\n"
        self._transport.write(head.encode() + body)
        return answer

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


async def connect(address: ControlAddress) -> RawConnection:
    """One connection to the master."""
    url = httpx.URL(address.url)
    head = f"Host: {url.host}\r\nAuthorization: Bearer {address.token}\r\n"
    _, connection = await asyncio.get_running_loop().create_connection(
        lambda: RawConnection(head), url.host, url.port or 0
    )
    return connection


class SimulatedWorker:
    """One worker of the crowd.

    Args:
        trial_s: Nominal time of a trial, compressed.
        compression: By which all periods that the master names are shortened, too.
        is_over: Whether to end with the message in progress.
    """

    def __init__(
        self,
        name: str,
        connection: RawConnection,
        findings: Findings,
        *,
        trial_s: float,
        compression: float,
        is_over: Callable[[], bool],
    ) -> None:
        self._life: dict[str, Any] = {"worker": name, "incarnation": "a"}
        self._connection = connection
        self._findings = findings
        self._trial_s = trial_s
        self._compression = compression
        self._is_over = is_over
        self._one_by_one = asyncio.Lock()
        self._rng = random.Random(name)
        self._num_claims = 0
        self._trial: int | None = None
        self._options = SyntheticOptions()
        self._beside: set[asyncio.Task[Any]] = set()

    async def serve(self) -> None:
        """Join, train and leave with the end of the run."""
        joining = JoinRequest(
            **self._life,
            host="node",
            version=__version__,
            unix_s=time.time(),
            backend="simulated",
            devices=DEVICES,
        )
        reply = await self._ask("/v1/join", joining, JoinReply)
        self._options = msgspec.convert(reply.workload_options, SyntheticOptions)
        self._start(self._beat(reply.heartbeat_s / self._compression))
        try:
            spec, ended_s = await self._claim(), None
            while spec is not None:
                if ended_s is not None:
                    self._findings.lost_s += time.perf_counter() - ended_s
                spec, ended_s = await self._train(spec)
        finally:
            for task in self._beside:
                task.cancel()

    def _start(self, action: Coroutine[Any, Any, Result]) -> asyncio.Task[Result]:
        """Do something beside the main course."""
        task = asyncio.create_task(action)
        self._beside.add(task)
        task.add_done_callback(self._note_end)
        return task

    def _note_end(self, task: asyncio.Task[Any]) -> None:
        self._beside.discard(task)
        if not task.cancelled() and (problem := task.exception()):
            self._findings.problems.append(problem)

    async def _train(self, spec: TrialSpec) -> tuple[TrialSpec | None, float]:
        """The next trial and when this one ended."""
        epoch_s = self._trial_s / spec.epochs * self._rng.uniform(1 - TRIAL_SPREAD, 1 + TRIAL_SPREAD)
        counts = count(spec.architecture.to_architecture())
        rate = spec.hyper_parameters["learning_rate"]
        assert isinstance(rate, float)
        curve = ErrorCurve(
            num_classes=self._options.classes,
            learning_rate=rate,
            train_ops=counts.aiperf_ops.train,
            seed=spec.seed,
        )
        self._trial = spec.trial
        began_s = time.perf_counter()
        next_claim = None
        for epoch in range(1, spec.epochs + 1):
            await asyncio.sleep(began_s + epoch * epoch_s - time.perf_counter())
            if self._is_over():
                return None, time.perf_counter()
            times = RankTimes(
                startup_s=0.0,
                compute_s=0.9 * epoch_s,
                data_wait_s=0.0,
                communication_s=0.0,
                validation_s=0.1 * epoch_s,
            )
            result = EpochResult(
                epoch=epoch,
                parameters=counts.parameters,
                train_images=self._options.train_images,
                validation_images=self._options.validation_images,
                validation_correct=round((1 - curve.error(epoch)) * self._options.validation_images),
                train_loss=curve.error(epoch),
                ranks=(times,),
            )
            self._start(self._report(spec, result))
            if epoch == spec.epochs - 1:
                next_claim = self._start(self._claim())
        ended_s = time.perf_counter()
        self._findings.busy_s += ended_s - began_s
        self._findings.num_trials += 1
        assert next_claim is not None
        following = await next_claim
        return following, ended_s

    async def _report(self, spec: TrialSpec, result: EpochResult) -> None:
        message = EpochRequest(**self._life, trial=spec.trial, result=result)
        await self._ask("/v1/epoch", message, Acknowledgement)
        if result.epoch == spec.epochs:
            end = FinishRequest(**self._life, trial=spec.trial, outcome=Outcome.COMPLETED)
            await self._ask("/v1/finish", end, Acknowledgement)

    async def _claim(self) -> TrialSpec | None:
        while not self._is_over():
            self._num_claims += 1
            request = ClaimRequest(**self._life, request=f"r{self._num_claims}")
            reply, took_s = await self._timed("/v1/claim", request, ClaimReply)
            if reply.spec is not None:
                self._findings.claims_s.append(took_s)
                return reply.spec
            if reply.stop:
                return None
            await asyncio.sleep(reply.retry_after_s or 0.0)
        return None

    async def _beat(self, period_s: float) -> None:
        await asyncio.sleep(period_s * self._rng.random())
        while True:
            message = HeartbeatRequest(**self._life, trial=self._trial, train_images=1)
            await self._ask("/v1/heartbeat", message, Acknowledgement)
            await asyncio.sleep(period_s)

    async def _ask(self, path: str, message: msgspec.Struct, reply_type: type[Reply]) -> Reply:
        reply, _ = await self._timed(path, message, reply_type)
        return reply

    async def _timed(
        self, path: str, message: msgspec.Struct, reply_type: type[Reply]
    ) -> tuple[Reply, float]:
        """The answer, and the seconds until it came."""
        async with self._one_by_one:
            began_s = time.perf_counter()
            body = await self._connection.post(path, msgspec.json.encode(message))
            took_s = time.perf_counter() - began_s
        self._findings.num_requests += 1
        return msgspec.json.decode(body, type=reply_type), took_s


class Crowd:
    """Many workers at once, who join one after another as a cluster starts them; ends with its block.

    Raises:
        AssertionError: At the end: the master refused or left a worker.
    """

    def __init__(
        self, address: ControlAddress, num_workers: int, *, trial_s: float, compression: float
    ) -> None:
        self.findings = Findings()
        self._address = address
        self._num_workers = num_workers
        self._trial_s = trial_s
        self._compression = compression
        self._is_over = False
        self._connections: list[RawConnection] = []
        self._serving: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Crowd:
        for number in range(self._num_workers):
            connection = await connect(self._address)
            worker = SimulatedWorker(
                f"w{number}",
                connection,
                self.findings,
                trial_s=self._trial_s,
                compression=self._compression,
                is_over=lambda: self._is_over,
            )
            self._connections.append(connection)
            self._serving.append(asyncio.create_task(worker.serve()))
            await asyncio.sleep(1 / JOINS_PER_S)
        return self

    async def first_claim(self) -> None:
        """Wait until the first worker has a trial."""
        while not self.findings.claims_s:
            await asyncio.sleep(0.01)
            self._check()

    async def __aexit__(self, *_: object) -> None:
        self._check()
        self._is_over = True
        for serving in self._serving:
            serving.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)
        for connection in self._connections:
            connection.close()

    def _check(self) -> None:
        assert not self.findings.problems, self.findings.problems[0]
        for serving in self._serving:
            if serving.done():
                serving.result()
