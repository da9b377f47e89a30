"""When to ask an engine again: soon while things move, rarely while nothing does or it is away."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

FIRST_PERIOD_S = 1.0
GROWTH = 1.5
JITTER = 0.2
MAX_PERIOD_S = 60.0
"""Between questions to an engine that does not answer."""


@dataclass(slots=True)
class Polling:
    """The moments of one poller; its owner tells the time.

    Attributes:
        steady_s: Least period while nothing changes.
        num_failures: Questions in a row that got no answer.
    """

    steady_s: float
    num_failures: int = 0
    _period_s: float = field(init=False, default=FIRST_PERIOD_S)
    _next_s: float = field(init=False, default=0.0)
    _rng: random.Random = field(init=False, default_factory=random.Random)

    def is_due(self, now_s: float) -> bool:
        """Whether to ask now."""
        return now_s >= self._next_s

    def answered(self, now_s: float, *, changed: bool) -> None:
        """Note an answer: the period starts anew after a change and grows to the steady one without."""
        self.num_failures = 0
        grown_s = min(self._period_s * GROWTH, self._steadied_s)
        self._period_s = min(FIRST_PERIOD_S, self.steady_s) if changed else grown_s
        self._plan(now_s)

    def failed(self, now_s: float) -> None:
        """Note a question without an answer: the period grows beyond the steady one."""
        self.num_failures += 1
        self._period_s = min(self._period_s * GROWTH, max(MAX_PERIOD_S, self._steadied_s))
        self._plan(now_s)

    @property
    def _steadied_s(self) -> float:
        """The period whose shortest jittered form is still the steady one."""
        return self.steady_s / (1 - JITTER)

    def _plan(self, now_s: float) -> None:
        self._next_s = now_s + self._period_s * self._rng.uniform(1 - JITTER, 1 + JITTER)
