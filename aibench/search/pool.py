"""The pool of networks that workers proposed and no trial has had."""

from __future__ import annotations

from typing import NamedTuple

from aibench.search.base import Proposal


class Admission(NamedTuple):
    """Whether a proposal was taken; if not, why."""

    accepted: bool
    reason: str = ""


class ProposalPool:
    """A bounded queue without duplicates: first in, first out, and the oldest gives way when it is full.

    Args:
        max_size: Most proposals that wait, at least 1.
    """

    def __init__(self, *, max_size: int) -> None:
        self._max_size = max_size
        self._waiting: dict[str, Proposal] = {}
        self._claimed_hashes: set[str] = set()

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, proposal: Proposal) -> Admission:
        """Queue the proposal unless its network waits already or was claimed."""
        content_hash = proposal.architecture.content_hash
        if content_hash in self._waiting:
            return Admission(accepted=False, reason="the same network waits in the pool already")
        if content_hash in self._claimed_hashes:
            return Admission(accepted=False, reason="a trial has had the same network already")
        if len(self._waiting) == self._max_size:
            del self._waiting[next(iter(self._waiting))]
        self._waiting[content_hash] = proposal
        return Admission(accepted=True)

    def take(self) -> Proposal | None:
        """Remove and return the oldest proposal, None if none waits."""
        if not self._waiting:
            return None
        return self._waiting.pop(next(iter(self._waiting)))

    def claimed(self, content_hash: str) -> None:
        """A trial got this network: it neither waits nor comes back."""
        self._claimed_hashes.add(content_hash)
        self._waiting.pop(content_hash, None)
