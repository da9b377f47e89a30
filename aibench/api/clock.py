"""Where a rank's time goes: the one place that reads a clock around training work."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Annotated

import msgspec

Seconds = Annotated[float, msgspec.Meta(ge=0)]


class Phase(StrEnum):
    """What a rank does; every second of a trial is booked to at most one phase."""

    STARTUP = "startup"
    COMPUTE = "compute"
    DATA_WAIT = "data_wait"
    COMMUNICATION = "communication"
    VALIDATION = "validation"


class RankTimes(msgspec.Struct, frozen=True, gc=False, kw_only=True, forbid_unknown_fields=True):
    """Seconds one rank spent in each phase since the last report.

    ``communication_s`` is None where the device runs asynchronously and the host cannot see it: it is then
    part of ``compute_s``.
    """

    startup_s: Seconds
    compute_s: Seconds
    data_wait_s: Seconds
    communication_s: Seconds | None
    validation_s: Seconds


class PhaseClock:
    """Books the monotonic clock to phases. Phases do not nest; one thread uses it."""

    def __init__(self) -> None:
        self._spent_s = dict.fromkeys(Phase, 0.0)

    @contextmanager
    def phase(self, phase: Phase) -> Iterator[None]:
        """Book the time spent inside the block."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self._spent_s[phase] += time.perf_counter() - began

    def rebook(self, seconds: float, *, source: Phase, target: Phase) -> None:
        """Move seconds that turned out to belong to another phase, as far as they were booked."""
        moved_s = min(seconds, self._spent_s[source])
        self._spent_s[source] -= moved_s
        self._spent_s[target] += moved_s

    def take(self) -> dict[Phase, float]:
        """Seconds per phase since the last call, which start again at zero."""
        spent = self._spent_s
        self._spent_s = dict.fromkeys(Phase, 0.0)
        return spent
