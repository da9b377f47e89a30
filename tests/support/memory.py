"""How much memory a process has needed at most."""

from __future__ import annotations

import re
from pathlib import Path


def peak_memory_mb() -> float:
    """Of this process since it began; getrusage would tell that of the process that started it."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) / 1024
