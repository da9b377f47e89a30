"""One rank of a worker: claim → build → train → validate → epoch → finish, until told to stop.

Rank 0 speaks with the master and tells the others what to do over the process group, which lives as long as
the worker. A trial that fails on all ranks alike (`TrialError`) costs that trial only. An exception on one
rank of several would leave the others waiting in a collective: that rank reports the trial as failed and
ends, and torchrun starts the gang anew.
"""

from __future__ import annotations

import logging
import os
import socket
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec
import torch
import torch.distributed as dist

from aibench import __version__
from aibench.api.events import Device, Outcome
from aibench.api.launcher import CPU
from aibench.api.protocol import Acknowledgement, JoinReply, JoinRequest
from aibench.api.workload import EpochResult, Gang, Progress, Trainer, TrialSpec
from aibench.errors import AibenchError, TrialError
from aibench.registry import workload_type
from aibench.worker.agent import GANG_PID_VARIABLE
from aibench.worker.connection import Connection
from aibench.worker.inventory import place_rank, take_inventory
from aibench.worker.parent import end_with_parent
from aibench.worker.proposer_process import ProposerProcess
from aibench.worker.session import Claim, Session, finish_request

Message = TypeVar("Message", bound=msgspec.Struct)

logger = logging.getLogger(__name__)

BLAME_GRACE_S = 3.0
REPORT_TIMEOUT_S = 30.0


@dataclass(frozen=True, kw_only=True, slots=True)
class RankSettings:
    """What torchrun passes on to each rank."""

    control_file: Path
    worker: str
    device: str
    first_device: int


class _Order(msgspec.Struct, frozen=True):
    """Rank 0's word to all ranks: train this trial, or with None end."""

    spec: TrialSpec | None


def run_rank(settings: RankSettings) -> None:
    """Serve until the run ends; called in every process that torchrun started.

    Raises:
        Exception: This rank cannot go on; torchrun restarts the gang.
    """
    end_with_parent(int(os.environ[GANG_PID_VARIABLE]))  # an orphan would hold its device for ever
    local_rank = int(os.environ["LOCAL_RANK"])
    position = settings.first_device + local_rank
    device, description = place_rank(take_inventory(), settings.device, position)
    backend = _open_process_group(device, is_shared=_is_shared(device))
    gang = Gang(rank=dist.get_rank(), num_ranks=dist.get_world_size(), device=device)
    joining = _introduce(settings.worker, backend, description, gang)
    if gang.rank == 0:
        _Leader(settings, joining, gang).serve()
    else:
        _Follower(settings, joining, gang).serve()
    dist.destroy_process_group()


class _Rank:
    """What leader and followers share: the trainer, and how one trial runs."""

    def __init__(self, settings: RankSettings, joining: JoinRequest, gang: Gang) -> None:
        self._control_file = settings.control_file
        self._joining = joining
        self._gang = gang
        self._progress = Progress()

    def _open_trainer(self, reply: JoinReply) -> Trainer:
        workload_class = workload_type(reply.workload)
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


class _Follower(_Rank):
    def serve(self) -> None:
        trainer = self._open_trainer(_broadcast(None, JoinReply))
        while (spec := _broadcast(None, _Order).spec) is not None:
            try:
                for _ in self._epochs(trainer, spec):
                    if not _broadcast_flag(False):
                        break
            except TrialError as error:
                logger.info("trial %d failed: %s", spec.trial, error)


class _Leader(_Rank):
    def __init__(self, settings: RankSettings, joining: JoinRequest, gang: Gang) -> None:
        super().__init__(settings, joining, gang)
        self._session = Session(settings.control_file, joining, self._progress)
        self._proposer = ProposerProcess(settings.control_file, joining)

    def serve(self) -> None:
        reply = _broadcast(self._session.join(), JoinReply)
        trainer = self._open_trainer(reply)
        self._proposer.start(reply.search)
        claim = self._session.claim()
        while True:
            waiting_since_s = time.perf_counter()
            claimed = claim.result()
            search_wait_s = time.perf_counter() - max(waiting_since_s, claimed.asked_at_s)
            if claimed.spec is not None and not self._session.is_wanted(claimed.spec.trial):
                claim = self._session.claim()
                continue
            spec = _broadcast(_Order(claimed.spec), _Order).spec
            if spec is None:
                break
            claim = self._train(trainer, spec, search_wait_s)
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
                if not _broadcast_flag(is_wanted and not is_stopped):
                    if is_wanted:
                        next_claim = next_claim or self._session.claim()
                        self._session.report_end(spec.trial, Outcome.STOPPED)
                    break
            else:
                self._session.report_end(spec.trial, Outcome.COMPLETED)
        except TrialError as error:
            self._session.report_end(spec.trial, Outcome.FAILED, str(error))
        return next_claim or self._session.claim()


def _introduce(worker: str, backend: str, description: Device, gang: Gang) -> JoinRequest:
    """Agree on one introduction of the whole gang."""
    parts = [
        _broadcast(description if gang.rank == rank else None, Device, source=rank)
        for rank in range(gang.num_ranks)
    ]
    mine = JoinRequest(
        worker=worker,
        incarnation=uuid.uuid4().hex,
        host=socket.gethostname(),
        version=__version__,
        unix_s=time.time(),
        backend=backend,
        devices=tuple(parts),
    )
    return _broadcast(mine if gang.rank == 0 else None, JoinRequest)


def _is_shared(device: str) -> bool:
    """Whether ranks of this node outnumber its accelerators."""
    return device != CPU and int(os.environ["LOCAL_WORLD_SIZE"]) > torch.accelerator.device_count()


def _open_process_group(device: str, *, is_shared: bool) -> str:
    """Join the gang's process group: Gloo for the processor, the device's own backend beside it.

    Collective libraries of accelerators refuse two ranks on one device: ranks that share one use Gloo.
    """
    if device == CPU or is_shared:
        dist.init_process_group("gloo")
        return "gloo"
    kind = torch.device(device).type
    torch.accelerator.set_device_index(torch.device(device).index)
    backend = dist.get_default_backend_for_device(kind)
    dist.init_process_group(f"cpu:gloo,{kind}:{backend}", device_id=torch.device(device))
    return backend


def _broadcast(message: Message | None, message_type: type[Message], *, source: int = 0) -> Message:
    """Send a message from one rank to all, as JSON: nothing is unpickled."""
    data = b"" if message is None else msgspec.json.encode(message)
    length = torch.tensor([len(data)], dtype=torch.int64)
    dist.broadcast(length, source)
    buffer = torch.frombuffer(bytearray(data or bytes(int(length))), dtype=torch.uint8)
    dist.broadcast(buffer, source)
    return msgspec.json.decode(buffer.numpy().tobytes(), type=message_type)


def _broadcast_flag(flag: bool) -> bool:
    """Rank 0's yes or no."""
    tensor = torch.tensor([int(flag)], dtype=torch.uint8)
    dist.broadcast(tensor, 0)
    return bool(tensor.item())
