"""The pool of networks that workers proposed and no trial has had."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple

from aibench.search.base import Proposal


class Admission(NamedTuple):
    """Whether a proposal was taken; if not, why."""

    accepted: bool
    reason: str = ""


class Fate(StrEnum):
    """What became of a proposal."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    HANDED_OUT = "handed_out"
    STALE = "stale"
    """It knew too little by the time it would have been handed out."""
    DISPLACED = "displaced"
    """A better one needed its place, or a trial got the same network from elsewhere."""


class _Waiting(NamedTuple):
    """The least one is the best: the least bound, then the most knowledge, then the first come."""

    bound: float
    minus_num_known: int
    number: int
    content_hash: str
    proposal: Proposal


class ProposalPool:
    """Bounded and without duplicates; the best proposal leaves first, the worst gives way when it is full.

    It answers the same to the same calls in the same order.

    Args:
        max_size: Most proposals that wait, at least 1.
        max_missed: Most closed trials that a waiting proposal may not know of.
    """

    def __init__(self, *, max_size: int, max_missed: int) -> None:
        self._max_size = max_size
        self._max_missed = max_missed
        self._num_closed = 0
        self._num_offered = 0
        self._waiting: dict[str, _Waiting] = {}
        self._claimed_hashes: set[str] = set()
        self._fates: Counter[Fate] = Counter()

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def fates(self) -> Mapping[Fate, int]:
        """How many proposals met each fate; accepted ones meet another one later."""
        return {fate: self._fates[fate] for fate in Fate}

    def add(self, proposal: Proposal, *, num_known: int) -> Admission:
        """Queue the proposal, if it is new and good enough.

        Args:
            num_known: Closed trials that its search had learned from.
        """
        content_hash = proposal.architecture.content_hash
        if reason := self._objection(content_hash, num_known):
            return self.refuse(reason)
        self._num_offered += 1
        offered = _Waiting(proposal.bound, -num_known, self._num_offered, content_hash, proposal)
        if len(self._waiting) == self._max_size:
            worst = max(self._waiting.values())
            if worst < offered:
                return self.refuse(f"{self._max_size} better ones wait in the pool")
            self._drop(worst.content_hash, Fate.DISPLACED)
        self._waiting[content_hash] = offered
        self._fates[Fate.ACCEPTED] += 1
        return Admission(accepted=True)

    def refuse(self, reason: str) -> Admission:
        """Count a proposal that is not taken."""
        self._fates[Fate.REFUSED] += 1
        return Admission(accepted=False, reason=reason)

    def take(self) -> Proposal | None:
        """Remove and return the best proposal, None if none waits."""
        if not self._waiting:
            return None
        best = min(self._waiting.values())
        self._drop(best.content_hash, Fate.HANDED_OUT)
        return best.proposal

    def claimed(self, content_hash: str) -> None:
        """A trial got this network: it neither waits nor comes back."""
        self._claimed_hashes.add(content_hash)
        if content_hash in self._waiting:
            self._drop(content_hash, Fate.DISPLACED)

    def trial_closed(self) -> None:
        """One more trial that waiting proposals do not know of; drop those that miss too many."""
        self._num_closed += 1
        for waiting in list(self._waiting.values()):
            if self._misses_too_many(-waiting.minus_num_known):
                self._drop(waiting.content_hash, Fate.STALE)

    def _objection(self, content_hash: str, num_known: int) -> str:
        if content_hash in self._waiting:
            return "the same network waits in the pool already"
        if content_hash in self._claimed_hashes:
            return "a trial has had the same network already"
        if num_known > self._num_closed:
            return f"it builds on {num_known} closed trials: expected at most {self._num_closed}"
        if self._misses_too_many(num_known):
            return f"it builds on {num_known} of {self._num_closed} closed trials, too few by now"
        return ""

    def _misses_too_many(self, num_known: int) -> bool:
        return self._num_closed - num_known > self._max_missed

    def _drop(self, content_hash: str, fate: Fate) -> None:
        del self._waiting[content_hash]
        self._fates[fate] += 1
