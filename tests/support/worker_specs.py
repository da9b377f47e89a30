"""Workers to place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from aibench.api.launcher import WorkerSpec


def worker(name: str = "w0", **changes: Any) -> WorkerSpec:
    """A worker with one rank in the run folder ``/run``; ``changes`` are other fields."""
    values: dict[str, Any] = {
        "run": "run",
        "pool": "p0",
        "num_ranks": 1,
        "device": "auto",
        "oversubscribe": False,
        "control_file": Path("/run/control.json"),
        "log_dir": Path("/run/workers") / name,
    }
    return WorkerSpec(worker=name, **{**values, **changes})
