"""Starting a worker's gang: this process becomes torchrun, which starts, watches and restarts the ranks."""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Mapping
from typing import NoReturn

from aibench.worker.meeting import MEETING_VARIABLE, Meeting
from aibench.worker.settings import WorkerSettings

MAX_GANG_RESTARTS = 3
LOOPBACK_INTERFACE = "lo"
GANG_PID_VARIABLE = "AIBENCH_GANG_PID"
"""Where rank 0 finds the process with which the worker ends: torchrun, or itself on simulated devices."""


def become_gang(settings: WorkerSettings, meeting: Meeting | None = None) -> NoReturn:
    """Replace this process by torchrun with the ranks of this node below it.

    Args:
        meeting: With the gang's other nodes, if it has any.
    """
    os.execve(sys.executable, gang_argv(settings, meeting), gang_environment(os.environ, meeting))


def gang_argv(settings: WorkerSettings, meeting: Meeting | None = None) -> list[str]:
    """Arguments of torchrun for one node."""
    return [
        *(sys.executable, "-m", "torch.distributed.run", "--rdzv-backend=c10d"),
        *(_among_nodes(settings, meeting) if meeting else _alone()),
        f"--nproc-per-node={settings.num_ranks // settings.num_nodes}",
        *(f"--max-restarts={MAX_GANG_RESTARTS}", "--monitor-interval=0.2"),
        *("-m", "aibench", "rank", "--control", str(settings.control_file), "--worker", settings.worker),
        *("--device", settings.device, "--first-device", str(settings.first_device)),
    ]


def gang_environment(environment: Mapping[str, str], meeting: Meeting | None = None) -> dict[str, str]:
    """The environment with what the ranks and a restart of the gang need; this process becomes torchrun.

    Sharing the rendezvous' store with the process group makes restarts hang for minutes (pytorch#135712).
    Left to itself, Gloo takes the address that this host's name leads to, which need not be one for others.
    """
    interface = meeting.interface if meeting else LOOPBACK_INTERFACE
    return {
        **({"GLOO_SOCKET_IFNAME": interface} if interface else {}),
        **environment,
        "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
        GANG_PID_VARIABLE: str(os.getpid()),
        **({MEETING_VARIABLE: meeting.appointment.endpoint} if meeting else {}),
    }


def _alone() -> list[str]:
    # By number: minimal systems cannot resolve the names of this host or of "localhost".
    return [f"--rdzv-id={uuid.uuid4().hex}", "--rdzv-endpoint=127.0.0.1:0", "--local-addr=127.0.0.1"]


def _among_nodes(settings: WorkerSettings, meeting: Meeting) -> list[str]:
    return [
        f"--rdzv-id={meeting.appointment.id}",
        f"--rdzv-endpoint={meeting.appointment.endpoint}",
        f"--local-addr={meeting.address}",
        f"--rdzv-conf=is_host={int(meeting.is_host)}",
        f"--nnodes={settings.num_nodes}",
    ]
