"""Parcels onto the disks of an MPI launcher's hosts, by one process of mpirun on each."""

from __future__ import annotations

import os
import subprocess
from collections import deque
from collections.abc import Mapping

from aibench.api.launcher import Command
from aibench.api.stage import Say
from aibench.errors import StageError
from launchers.processes import last_line

KEPT_LINES = 20


def run_broadcast(command: Command, say: Say, environment: Mapping[str, str] = os.environ) -> None:
    """Run the command and pass on its lines of progress.

    Raises:
        StageError: It failed.
    """
    try:
        with subprocess.Popen(
            command.argv,
            env={**environment, **command.environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            assert process.stdout is not None
            lines: deque[str] = deque(maxlen=KEPT_LINES)
            for line in process.stdout:
                lines.append(line)
                if line.startswith("stage: "):
                    say(line.removeprefix("stage: ").rstrip())
    except OSError as error:
        raise StageError(f"{command.argv[0]}: {error}") from error
    if process.returncode != 0:
        said = next((line for line in lines if line.startswith("aibench: ")), None)
        raise StageError(last_line(said or "".join(lines)) or f"exit status {process.returncode}")
