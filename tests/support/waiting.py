"""Waiting for what other threads and processes do."""

from __future__ import annotations

import threading
from collections.abc import Callable

WAIT_S = 60.0
PAUSE_S = 0.02


def eventually(condition: Callable[[], bool]) -> None:
    """Return as soon as the condition holds; fail if it does not for a minute."""
    ticks = threading.Event()
    for _ in range(int(WAIT_S / PAUSE_S)):
        if condition():
            return
        ticks.wait(PAUSE_S)
    raise AssertionError("the condition was never met")
