"""A worker on simulated devices: one process without torch stands for all of its ranks.

It speaks with the master as any other worker does. Only a workload that needs no devices can be trained so.
No proposer runs beside it: that would take real time of a processor, which many simulated workers share.
"""

from __future__ import annotations

import os
import socket
import time
import uuid

import msgspec

from aibench import __version__
from aibench.api.events import Device
from aibench.api.launcher import SIMULATED
from aibench.api.protocol import JoinRequest
from aibench.api.workload import Gang
from aibench.worker.agent import GANG_PID_VARIABLE
from aibench.worker.leader import Leader
from aibench.worker.settings import WorkerSettings


def run_simulated(settings: WorkerSettings) -> None:
    """Serve until the run ends.

    Raises:
        LauncherError: The run's workload needs real devices.
    """
    os.environ[GANG_PID_VARIABLE] = str(os.getpid())  # this process is the whole gang
    device = Device(kind=SIMULATED, name=SIMULATED, memory_bytes=None)
    joining = JoinRequest(
        worker=settings.worker,
        incarnation=uuid.uuid4().hex,
        host=socket.gethostname(),
        version=__version__,
        unix_s=time.time(),
        backend=SIMULATED,
        devices=(device,) * settings.num_ranks,
    )
    gang = Gang(rank=0, num_ranks=settings.num_ranks, device=SIMULATED)
    Leader(settings.control_file, joining, gang, _Nobody()).serve()


class _Nobody:
    """The ranks of one process need not be told."""

    def tell(self, message: msgspec.Struct) -> None:
        pass

    def tell_flag(self, flag: bool) -> None:
        pass
