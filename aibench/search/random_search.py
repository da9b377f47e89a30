"""Random search by morphs: the baseline every cleverer search must beat."""

from __future__ import annotations

import bisect
import random

from aibench.architecture import Architecture
from aibench.search.base import Proposal, check_error
from aibench.search.mutator import Mutator, Reach


class RandomArchitectureSearch:
    """An `ArchitectureSearch` that morphs a parent drawn uniformly from all networks with a known error.

    The initial network is always one of the parents. Draw number n depends on the seed, n, and the set of
    networks told before, not on their order.

    Args:
        reach: What it may propose.
        seed: Seed of all draws.
    """

    def __init__(self, reach: Reach, *, seed: int) -> None:
        self._mutator = Mutator(reach, origin="random", seed=seed)
        self._parents: dict[str, Architecture] = {reach.initial.content_hash: reach.initial}
        self._parent_hashes = [reach.initial.content_hash]

    def ask(self) -> Proposal:
        """The initial network, later a child that no trial has had."""
        return self._mutator.draw(self._pick_parent)

    def claimed(self, architecture: Architecture) -> None:
        """Go on to the next draw and propose this network no more."""
        self._mutator.claimed(architecture)

    def tell(self, architecture: Architecture, error: float | None) -> None:
        """Take the network among the parents if it has an error.

        Raises:
            ValueError: The error is not in 0..1.
        """
        check_error(error)
        content_hash = architecture.content_hash
        if error is not None and content_hash not in self._parents:
            self._parents[content_hash] = architecture
            bisect.insort(self._parent_hashes, content_hash)

    def _pick_parent(self, rng: random.Random) -> Architecture:
        return self._parents[rng.choice(self._parent_hashes)]
