"""The run's clock: monotonic seconds since the first record, one axis across resumes."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path

from aibench.api.events import ClockAnchor
from aibench.errors import RunFolderError

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def read_anchor() -> ClockAnchor:
    """This instant on the wall clock and on this boot's monotonic clock."""
    unix_s = time.time()
    return ClockAnchor(
        utc=datetime.fromtimestamp(unix_s, UTC).isoformat(timespec="milliseconds"),
        unix_s=unix_s,
        boot_id=_BOOT_ID.read_text().strip() if _BOOT_ID.exists() else "",
        monotonic_s=time.monotonic(),
    )


class RunClock:
    """Seconds since ``origin``, advancing with the monotonic clock of this process.

    Args:
        origin: Anchor of the run's first record.
        last_s: Time of the last record, when a run goes on.

    Raises:
        RunFolderError: Only the wall clock can place the run, and it stands before the last record.
    """

    def __init__(self, origin: ClockAnchor, *, last_s: float = 0.0) -> None:
        now = read_anchor()
        if origin.boot_id and origin.boot_id == now.boot_id:
            self.source = "monotonic"
            now_s = now.monotonic_s - origin.monotonic_s
        else:
            self.source = "wall"
            now_s = now.unix_s - origin.unix_s
        if now_s < last_s:
            raise RunFolderError(
                f"the wall clock stands {last_s - now_s:.0f} s before the journal's last record: "
                "set the clock, then resume"
            )
        self._zero_s = now.monotonic_s - now_s

    def now_s(self) -> float:
        """Seconds since the run's first record."""
        return time.monotonic() - self._zero_s
