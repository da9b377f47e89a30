"""Workers to place, for tests of what launchers render."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from aibench.api.launcher import WorkerSpec

_WORKER = WorkerSpec(
    run="run",
    worker="w0",
    pool="p0",
    num_ranks=2,
    device="cpu",
    oversubscribe=False,
    control_file=Path("/runs/run/control.json"),
    log_dir=Path("/runs/run/workers/w0"),
)


def worker(**changes: Any) -> WorkerSpec:
    """A worker of two ranks on a processor, with changes."""
    return dataclasses.replace(_WORKER, **changes)
