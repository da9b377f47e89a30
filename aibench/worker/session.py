"""Rank 0's conversation with the master: events in order in the background, heartbeats beside them.

Training never waits for the master: events queue up while it is away and are sent when it is back.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import msgspec

from aibench.api.events import Outcome
from aibench.api.protocol import (
    Acknowledgement,
    ClaimReply,
    ClaimRequest,
    EpochRequest,
    FinishRequest,
    HeartbeatRequest,
    JoinReply,
    JoinRequest,
)
from aibench.api.workload import EpochResult, Progress, TrialSpec
from aibench.errors import MasterAwayError, ProtocolError
from aibench.worker.agent import GANG_PID_VARIABLE
from aibench.worker.connection import Connection, Reply
from aibench.worker.meeting import close_meeting

logger = logging.getLogger(__name__)

JOIN_TIMEOUT_S = 120.0
FAREWELL_S = 60.0
"""From the end of a run that nobody told this worker of to its own, whatever it trains then."""
MAX_REASON_LENGTH = 2000


class _RunIsOverError(Exception):
    """The master ended the run while it was asked."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What a claim brought: a trial or, with None, the end.

    Attributes:
        asked_at_s: When the request was sent that was answered with it, on `time.perf_counter`.
    """

    spec: TrialSpec | None
    asked_at_s: float


class Session:
    """The master as rank 0 sees it.

    Args:
        joining: What to introduce the gang with; its incarnation names every later message.
        progress: Images of the epoch in progress, read by the heartbeat.
    """

    def __init__(self, control_file: Path, joining: JoinRequest, progress: Progress) -> None:
        self._joining = joining
        self._progress = progress
        self._outbox = ThreadPoolExecutor(max_workers=1, thread_name_prefix="outbox")
        self._connection = Connection(control_file)
        self._heartbeat_connection = Connection(control_file)
        self._trial: int | None = None
        self._leased: set[int] = set()
        self._given_up: set[int] = set()
        self._to_stop: set[int] = set()
        self._num_joins = 0
        self._stop = threading.Event()
        self._closing = threading.Event()
        self._heart: threading.Thread | None = None
        self._master_timeout_s = JOIN_TIMEOUT_S

    def join(self) -> JoinReply:
        """Introduce the gang and start the heartbeat.

        Raises:
            MasterAwayError: The master did not answer within two minutes.
            ProtocolError: It refuses this gang, whose torchrun is told to end.
        """
        try:
            reply = self._send_join()
        except ProtocolError as error:
            leave(str(error))
            raise
        self._master_timeout_s = reply.master_timeout_s
        self._heart = threading.Thread(target=self._beat, args=(reply.heartbeat_s,), daemon=True)
        self._heart.start()
        return reply

    def claim(self) -> Future[Claim]:
        """Ask for a trial after everything reported so far; poll until there is one or the end."""
        return self._outbox.submit(self._claim)

    def begin(self, spec: TrialSpec) -> None:
        """Say which trial the following progress belongs to."""
        self._progress.reset()
        self._trial = spec.trial

    def report_epoch(self, trial: int, result: EpochResult, *, search_wait_s: float) -> None:
        """Queue a finished epoch."""
        message = EpochRequest(
            worker=self._joining.worker,
            incarnation=self._joining.incarnation,
            trial=trial,
            result=result,
            search_wait_s=search_wait_s,
        )
        self._post(self._send_event, trial, "/v1/epoch", message)

    def report_end(self, trial: int, outcome: Outcome, reason: str = "") -> Future[None]:
        """Queue the end of a trial."""
        unfinished = (self._progress.train_images, self._progress.validation_images)
        self._trial = None
        message = finish_request(self._joining, trial, outcome, reason, unfinished)
        return self._post(self._send_event, trial, "/v1/finish", message)

    def _post(self, call: Callable[..., None], *arguments: object) -> Future[None]:
        future = self._outbox.submit(call, *arguments)
        future.add_done_callback(_leave_if_failed)
        return future

    def is_wanted(self, trial: int) -> bool:
        """Whether the master still waits for this trial."""
        return not self._stop.is_set() and trial not in self._given_up

    def is_to_stop(self, trial: int) -> bool:
        """Whether the master asked to end this trial with the epoch in progress."""
        return trial in self._to_stop

    def close(self) -> None:
        """Send what is queued, then hang up; nothing is claimed any more."""
        self._stop.set()
        self._closing.set()
        if self._heart is not None:
            self._heart.join()
        self._outbox.shutdown()
        self._connection.close()

    # Outbox thread ------------------------------------------------------------------------------------

    def _claim(self) -> Claim:
        while not self._stop.is_set():
            request = ClaimRequest(
                worker=self._joining.worker, incarnation=self._joining.incarnation, request=uuid.uuid4().hex
            )
            asked_at_s = time.perf_counter()
            reply = self._try_claim(request)
            if reply.spec is not None:
                self._leased.add(reply.spec.trial)
                return Claim(reply.spec, asked_at_s)
            if reply.stop:
                break
            time.sleep(reply.retry_after_s or 0.0)
        return Claim(None, time.perf_counter())

    def _try_claim(self, request: ClaimRequest) -> ClaimReply:
        try:
            return self._patiently(
                lambda: self._connection.call_until(
                    "/v1/claim",
                    request,
                    ClaimReply,
                    timeout_s=self._master_timeout_s,
                    ends_with_run=True,
                )
            )
        except _RunIsOverError:
            return ClaimReply(stop=True)
        except ProtocolError as error:
            if not error.must_join:
                raise
            return ClaimReply(retry_after_s=0.0, stop=self._join_again().stop)

    def _send_event(self, trial: int, path: str, message: EpochRequest | FinishRequest) -> None:
        try:
            reply = self._patiently(
                lambda: self._connection.call_until(
                    path,
                    message,
                    Acknowledgement,
                    timeout_s=self._master_timeout_s,
                    ends_with_run=True,
                )
            )
            if reply.stop_trial:
                self._to_stop.add(trial)
            if reply.stop:
                self._stop.set()
            else:  # at the end of a run, an answer does not say that anything was recorded
                logger.info("trial %d: the master has recorded %s", trial, _content(message))
        except _RunIsOverError:
            return
        except ProtocolError as error:
            logger.warning("trial %d is given up: %s", trial, error)
            self._given_up.add(trial)
            if error.must_join:
                self._join_again()
            elif isinstance(message, EpochRequest):
                self._send_event(trial, "/v1/finish", self._failure(trial, error))

    def _failure(self, trial: int, refusal: ProtocolError) -> FinishRequest:
        """The end of a trial whose epoch was refused: left open it would hold its lease for ever."""
        reason = f"the master refused an epoch: {refusal.problem}"
        return finish_request(self._joining, trial, Outcome.FAILED, reason)

    def _join_again(self) -> JoinReply:
        """The master gave this worker up, and with it every trial it had."""
        self._given_up |= self._leased
        return self._send_join()

    def _join_again_unless_done(self, num_joins: int) -> None:
        if num_joins == self._num_joins:
            self._join_again()

    def _send_join(self) -> JoinReply:
        reply = self._connection.call_until(
            "/v1/join", self._introduction, JoinReply, timeout_s=self._master_timeout_s
        )
        self._num_joins += 1
        if reply.stop:
            self._stop.set()
        return reply

    def _introduction(self) -> JoinRequest:
        return msgspec.structs.replace(self._joining, unix_s=time.time())

    def _patiently(self, call: Callable[[], Reply]) -> Reply:
        try:
            return call()
        except MasterAwayError as error:
            if self._connection.is_run_over:
                self._stop.set()
                raise _RunIsOverError from error
            leave(f"the master stayed away: {error}")
            raise

    # Heartbeat thread ---------------------------------------------------------------------------------

    def _beat(self, period_s: float) -> None:
        heard = time.monotonic()
        while not self._stop.wait(period_s):
            message, num_joins = self._heartbeat(), self._num_joins
            try:
                reply = self._heartbeat_connection.call("/v1/heartbeat", message, Acknowledgement)
                heard = time.monotonic()
                if reply.stop:
                    self._stop.set()
            except ProtocolError as error:
                heard = time.monotonic()
                self._heed(error, message.trial, num_joins)
            except MasterAwayError as error:
                if self._heartbeat_connection.is_run_over:
                    self._stop.set()
                elif time.monotonic() - heard > self._master_timeout_s and not self._stop.is_set():
                    leave(f"the master stayed away: {error}")
        self._heartbeat_connection.close()
        if self._heartbeat_connection.is_run_over and not self._closing.wait(FAREWELL_S):
            leave("the run is over")

    def _heartbeat(self) -> HeartbeatRequest:
        return HeartbeatRequest(
            worker=self._joining.worker,
            incarnation=self._joining.incarnation,
            trial=self._trial,
            train_images=self._progress.train_images,
            validation_images=self._progress.validation_images,
        )

    def _heed(self, refusal: ProtocolError, trial: int | None, num_joins: int) -> None:
        logger.warning("heartbeat refused: %s", refusal)
        if trial is not None:
            self._given_up.add(trial)
        if refusal.must_join:
            # By then an event may have been refused for the same reason, and new trials claimed.
            self._post(self._join_again_unless_done, num_joins)


def finish_request(
    joining: JoinRequest, trial: int, outcome: Outcome, reason: str, unfinished: tuple[int, int] = (0, 0)
) -> FinishRequest:
    """The message that ends a trial; ``unfinished`` are train and validation images of a cut-off epoch."""
    return FinishRequest(
        worker=joining.worker,
        incarnation=joining.incarnation,
        trial=trial,
        outcome=outcome,
        reason=reason[:MAX_REASON_LENGTH],
        unfinished_train_images=unfinished[0],
        unfinished_validation_images=unfinished[1],
    )


def _content(message: EpochRequest | FinishRequest) -> str:
    if isinstance(message, EpochRequest):
        return f"epoch {message.result.epoch}"
    return f"it as {message.outcome}"


def _leave_if_failed(sent: Future[None]) -> None:
    """An event that cannot be sent for a reason nobody foresaw must not vanish."""
    if error := sent.exception():
        leave(f"an event was not sent: {type(error).__name__}: {error}")


def leave(reason: str) -> None:
    """End the whole worker from any thread: torchrun above ends all ranks, as do those of other nodes."""
    logger.error("%s: this worker ends", reason)
    close_meeting(os.environ)
    os.kill(int(os.environ[GANG_PID_VARIABLE]), signal.SIGTERM)
