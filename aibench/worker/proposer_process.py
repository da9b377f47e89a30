"""A rank's hold on its proposer: started beside the training, watched, and never waited for.

The proposer is an interpreter of its own, not a fork: the rank holds torch, threads and a device. It gets the
processor when nothing else wants it, so it needs no core to be set aside, and stays on the cores of its rank.
"""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

import msgspec

from aibench.api.protocol import JoinRequest, SearchBrief

logger = logging.getLogger(__name__)

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
LOWEST_PRIORITY = 19
STOP_GRACE_S = 5.0


class ProposerProcess:
    """Runs ``aibench proposer`` from `start` to `stop`; nothing of it can fail the rank."""

    def __init__(self, control_file: Path, joining: JoinRequest) -> None:
        self._argv = proposer_argv(control_file, joining)
        self._process: subprocess.Popen[bytes] | None = None
        self._attendant: threading.Thread | None = None
        self._is_stopping = False

    def start(self, brief: SearchBrief | None) -> None:
        """Start it in the background; without a brief there is nothing to do."""
        if brief is None:
            return
        try:
            self._process = subprocess.Popen(
                self._argv, env=proposer_environment(os.environ), stdin=subprocess.PIPE
            )
        except OSError as error:
            logger.warning("no proposer: it could not be started (%s); training goes on", error)
            return
        _yield_to_everything(self._process.pid)
        self._attendant = threading.Thread(
            target=self._attend, args=(self._process, msgspec.json.encode(brief)), daemon=True
        )
        self._attendant.start()

    def stop(self) -> None:
        """End it, if it runs."""
        self._is_stopping = True
        if self._process is None or self._attendant is None:
            return
        self._process.terminate()
        self._attendant.join(STOP_GRACE_S)
        self._process.kill()
        self._attendant.join(STOP_GRACE_S)

    def _attend(self, process: subprocess.Popen[bytes], brief: bytes) -> None:
        # It may be long before an idle-priority process reads: the rank must not wait for that.
        process.communicate(brief)
        if not self._is_stopping and process.returncode != 0:
            logger.warning("the proposer ended with status %d; training goes on", process.returncode)


def proposer_argv(control_file: Path, joining: JoinRequest) -> list[str]:
    """The proposer's command line, for a child of this process; its brief comes on standard input."""
    return [
        *(sys.executable, "-m", "aibench", "proposer", "--control", str(control_file)),
        *("--worker", joining.worker, "--incarnation", joining.incarnation),
        *("--parent", str(os.getpid())),
    ]


def proposer_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The rank's environment with one thread for numerical libraries."""
    return {**environment, **dict.fromkeys(THREAD_VARIABLES, "1")}


def _yield_to_everything(pid: int) -> None:
    """Let a process run only where nothing else wants to, as far as this system can."""
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, pid, LOWEST_PRIORITY)
        os.sched_setscheduler(pid, os.SCHED_IDLE, os.sched_param(0))
