"""Rank 0 of a worker: claim → build → train → validate → epoch → finish, until told to stop.

It speaks with the master and tells the other ranks what to do, however these are reached. A trial that fails
on all ranks alike (`TrialError`) costs that trial only. An exception on one rank of several would leave the
others waiting for it: that rank reports the trial as failed and ends, and the gang is started anew.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Protocol

import msgspec

from aibench.api.events import Outcome
from aibench.api.launcher import SIMULATED
from aibench.api.protocol import Acknowledgement, JoinReply, JoinRequest
from aibench.api.workload import EpochResult, Gang, Progress, Trainer, TrialSpec
from aibench.errors import AibenchError, LauncherError, TrialError
from aibench.registry import workload_type
from aibench.worker.connection import Connection
from aibench.worker.proposer_process import ProposerProcess
from aibench.worker.session import Claim, Session, finish_request

logger = logging.getLogger(__name__)

BLAME_GRACE_S = 3.0
REPORT_TIMEOUT_S = 30.0


class Followers(Protocol):
    """The other ranks of the gang, as rank 0 speaks to them; every word is waited for there."""

    def tell(self, message: msgspec.Struct) -> None:
        """Send all of them a message."""
        ...

    def tell_flag(self, flag: bool) -> None:
        """Send all of them a yes or no."""
        ...


class Order(msgspec.Struct, frozen=True):
    """Rank 0's word to all ranks: train this trial, or with None end."""

    spec: TrialSpec | None


class Rank:
    """What leader and followers share: the trainer, and how one trial runs."""

    def __init__(self, control_file: Path, joining: JoinRequest, gang: Gang) -> None:
        self._control_file = control_file
        self._joining = joining
        self._gang = gang
        self._progress = Progress()

    def _open_trainer(self, reply: JoinReply) -> Trainer:
        workload_class = workload_type(reply.workload)
        if self._gang.device == SIMULATED and workload_class.needs_devices:
            raise LauncherError(f"workload {reply.workload!r} needs real devices, not device {SIMULATED!r}")
        options = msgspec.convert(reply.workload_options, workload_class.options_type)
        weights_dir = None if reply.weights_dir is None else Path(reply.weights_dir)
        return workload_class(options).open(self._gang, weights_dir)

    def _epochs(self, trainer: Trainer, spec: TrialSpec) -> Iterator[EpochResult]:
        try:
            yield from trainer.train(spec, self._progress)
        except TrialError:
            raise
        except Exception as error:
            reason = f"rank {self._gang.rank}: {type(error).__name__}: {error}"
            logger.exception("trial %d failed", spec.trial)
            if self._gang.num_ranks == 1:
                raise TrialError(reason) from error
            self._report_failure(spec, reason)
            raise

    def _report_failure(self, spec: TrialSpec, reason: str) -> None:
        # If another rank died, this one only sees its collective break, and torchrun ends it meanwhile: then
        # the trial is lost, not at fault.
        time.sleep(BLAME_GRACE_S)
        message = finish_request(self._joining, spec.trial, Outcome.FAILED, reason)
        try:
            connection = Connection(self._control_file)
            connection.call_until("/v1/finish", message, Acknowledgement, timeout_s=REPORT_TIMEOUT_S)
        except AibenchError:
            logger.exception("trial %d: its failure could not be reported", spec.trial)


class Leader(Rank):
    """Rank 0; `serve` returns when the run is over.

    Args:
        proposer: What searches beside the training; None for nothing.
    """

    def __init__(
        self,
        control_file: Path,
        joining: JoinRequest,
        gang: Gang,
        followers: Followers,
        *,
        proposer: ProposerProcess | None = None,
    ) -> None:
        super().__init__(control_file, joining, gang)
        self._session = Session(control_file, joining, self._progress)
        self._followers = followers
        self._proposer = proposer

    def serve(self) -> None:
        """Join, then train what is claimed."""
        reply = self._session.join()
        self._followers.tell(reply)
        trainer = self._open_trainer(reply)
        if self._proposer is not None:
            self._proposer.start(reply.search)
        claim = self._session.claim()
        while True:
            waiting_since_s = time.perf_counter()
            claimed = claim.result()
            search_wait_s = time.perf_counter() - max(waiting_since_s, claimed.asked_at_s)
            if claimed.spec is not None and not self._session.is_wanted(claimed.spec.trial):
                claim = self._session.claim()
                continue
            self._followers.tell(Order(claimed.spec))
            if claimed.spec is None:
                break
            claim = self._train(trainer, claimed.spec, search_wait_s)
        if self._proposer is not None:
            self._proposer.stop()
        self._session.close()

    def _train(self, trainer: Trainer, spec: TrialSpec, search_wait_s: float) -> Future[Claim]:
        """Train one trial; return the claim of the next, made while the last epoch ran.

        The master's word to stop comes while the next epoch runs already, which is then the last one. If that
        is the last of the trial anyway, the trial is complete.
        """
        next_claim = None
        self._session.begin(spec)
        if spec.epochs == 1:
            next_claim = self._session.claim()
        try:
            for result in self._epochs(trainer, spec):
                self._session.report_epoch(spec.trial, result, search_wait_s=search_wait_s)
                search_wait_s = 0.0
                if result.epoch == spec.epochs - 1:
                    next_claim = self._session.claim()
                is_stopped = result.epoch < spec.epochs and self._session.is_to_stop(spec.trial)
                is_wanted = self._session.is_wanted(spec.trial)
                goes_on = is_wanted and not is_stopped
                self._followers.tell_flag(goes_on)
                if not goes_on:
                    if is_wanted:
                        next_claim = next_claim or self._session.claim()
                        self._session.report_end(spec.trial, Outcome.STOPPED)
                    break
            else:
                self._session.report_end(spec.trial, Outcome.COMPLETED)
        except TrialError as error:
            self._session.report_end(spec.trial, Outcome.FAILED, str(error))
        return next_claim or self._session.claim()
