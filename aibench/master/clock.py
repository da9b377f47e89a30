"""The run's clock: monotonic seconds since the first record, one axis across resumes."""

from __future__ import annotations

import time
from collections.abc import Sequence
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
    """Seconds since the run's first record, advancing with the monotonic clock of this process.

    Attributes:
        source: ``monotonic`` when this boot's own clock places the run, ``wall`` when only wall time can.

    Args:
        anchors: Instants of the run so far, each with its time on the run's axis; the last is the newest.
        last_s: Time of the last record, when a run goes on.

    Raises:
        RunFolderError: The clock stands before the last record.
    """

    def __init__(self, anchors: Sequence[tuple[float, ClockAnchor]], *, last_s: float = 0.0) -> None:
        now = read_anchor()
        here = [(t_s, anchor) for t_s, anchor in anchors if anchor.boot_id and anchor.boot_id == now.boot_id]
        t_s, anchor = (here or list(anchors))[-1]
        if here:
            self.source = "monotonic"
            now_s = t_s + now.monotonic_s - anchor.monotonic_s
        else:
            self.source = "wall"
            now_s = t_s + now.unix_s - anchor.unix_s
        if now_s < last_s:
            raise RunFolderError(
                f"the {self.source} clock stands {last_s - now_s:.0f} s before the journal's last record: "
                "set the clock, then resume"
            )
        self._zero_s = now.monotonic_s - now_s

    def now_s(self) -> float:
        """Seconds since the run's first record."""
        return time.monotonic() - self._zero_s
