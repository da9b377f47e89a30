"""Starting a worker's gang: this process becomes torchrun, which starts, watches and restarts the ranks."""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

MAX_GANG_RESTARTS = 3
GANG_PID_VARIABLE = "AIBENCH_GANG_PID"
"""Where rank 0 finds the process with which the worker ends: torchrun, or itself on simulated devices."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerSettings:
    """What a worker is told when it is started; all else comes from the master.

    Attributes:
        device: ``cpu``, ``auto``, ``simulated``, or a device type of torch.
        first_device: Accelerators of the node that other workers use before this one's.
    """

    control_file: Path
    worker: str
    num_ranks: int
    device: str
    first_device: int


def become_gang(settings: WorkerSettings) -> NoReturn:
    """Replace this process by torchrun with the worker's ranks below it."""
    os.execve(sys.executable, gang_argv(settings), gang_environment(os.environ))


def gang_argv(settings: WorkerSettings) -> list[str]:
    """Arguments of torchrun for one node."""
    return [
        sys.executable,
        *("-m", "torch.distributed.run", "--rdzv-backend=c10d", f"--rdzv-id={uuid.uuid4().hex}"),
        # By number: minimal systems cannot resolve the names of this host or of "localhost".
        *("--rdzv-endpoint=127.0.0.1:0", "--local-addr=127.0.0.1"),
        *(f"--nproc-per-node={settings.num_ranks}", f"--max-restarts={MAX_GANG_RESTARTS}"),
        *("--monitor-interval=0.2", "-m", "aibench", "rank"),
        *("--control", str(settings.control_file), "--worker", settings.worker),
        *("--device", settings.device, "--first-device", str(settings.first_device)),
    ]


def gang_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment with what the ranks and a restart of the gang need; this process becomes torchrun.

    Sharing the rendezvous' store with the process group makes restarts hang for minutes (pytorch#135712).
    """
    return {
        **environment,
        "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
        GANG_PID_VARIABLE: str(os.getpid()),
    }
