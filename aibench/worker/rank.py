"""One rank of a worker's gang on real devices; the ranks talk over the process group of torch.distributed.

It lives as long as the worker. torchrun restarts the gang when a rank ends.
"""

from __future__ import annotations

import logging
import os
import socket
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec
import torch
import torch.distributed as dist

from aibench import __version__
from aibench.api.events import Device
from aibench.api.launcher import CPU
from aibench.api.protocol import JoinReply, JoinRequest
from aibench.api.workload import Gang
from aibench.errors import TrialError
from aibench.worker.agent import GANG_PID_VARIABLE
from aibench.worker.inventory import place_rank, take_inventory
from aibench.worker.leader import Leader, Order, Rank
from aibench.worker.parent import end_with_parent
from aibench.worker.proposer_process import ProposerProcess

Message = TypeVar("Message", bound=msgspec.Struct)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class RankSettings:
    """What torchrun passes on to each rank."""

    control_file: Path
    worker: str
    device: str
    first_device: int


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
        proposer = ProposerProcess(settings.control_file, joining)
        Leader(settings.control_file, joining, gang, _OtherRanks(), proposer=proposer).serve()
    else:
        _Follower(settings.control_file, joining, gang).serve()
    dist.destroy_process_group()


class _OtherRanks:
    """What the leader says goes over the process group."""

    def tell(self, message: msgspec.Struct) -> None:
        _broadcast(message, type(message))

    def tell_flag(self, flag: bool) -> None:
        _broadcast_flag(flag)


class _Follower(Rank):
    def serve(self) -> None:
        trainer = self._open_trainer(_broadcast(None, JoinReply))
        while (spec := _broadcast(None, Order).spec) is not None:
            try:
                for _ in self._epochs(trainer, spec):
                    if not _broadcast_flag(False):
                        break
            except TrialError as error:
                logger.info("trial %d failed: %s", spec.trial, error)


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
