"""Ending with the process that started this one."""

from __future__ import annotations

import os
import threading
import time

PARENT_POLL_S = 1.0


def end_with_parent(parent_pid: int) -> None:
    """End this process when that one is no longer its parent, however it went."""

    def watch() -> None:
        while os.getppid() == parent_pid:
            time.sleep(PARENT_POLL_S)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
