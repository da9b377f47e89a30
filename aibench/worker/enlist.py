"""Asking the master which worker this place is to be, where the launcher could not say."""

from __future__ import annotations

import socket
import time
from pathlib import Path

from aibench.api.protocol import EnlistReply, EnlistRequest
from aibench.worker.connection import Connection

MASTER_TIMEOUT_S = 300.0


def enlist(control_file: Path, pool: str) -> str | None:
    """Name of the worker to be; None if the run is over.

    Waits while every worker of the pool is somebody: this place may have been started for one whose loss the
    master has not noticed yet.

    Raises:
        MasterAwayError: The master did not answer within five minutes.
        ProtocolError: It has no such pool.
    """
    connection = Connection(control_file)
    request = EnlistRequest(pool=pool, place=socket.gethostname())
    while True:
        reply = connection.call_until("/v1/enlist", request, EnlistReply, timeout_s=MASTER_TIMEOUT_S)
        if reply.retry_after_s is None:
            connection.close()
            return reply.worker
        time.sleep(reply.retry_after_s)
