"""Ageing evolution: parents win tournaments, and every network dies of age, however good it was.

Source: Real et al., "Regularized Evolution for Image Classifier Architecture Search", arXiv:1802.01548,
algorithm 1. Morphs are the mutations. It is asynchronous: a network enters the population when its trial
ends, and an ask waits for none. Instead of starting from a random population, which would spend the first
trials of a short run unguided, a share of all children descends from the initial network.
"""

from __future__ import annotations

import random
from collections import deque
from typing import NamedTuple

from aibench.architecture import Architecture
from aibench.search.base import Proposal, check_error
from aibench.search.mutator import Mutator, Reach

POPULATION_SIZE = 64
TOURNAMENT_SIZE = 16
FROM_SCRATCH_SHARE = 0.1


class _Member(NamedTuple):
    error: float
    architecture: Architecture


class EvolutionarySearch:
    """An `ArchitectureSearch` that morphs the best of a few networks drawn from those told last.

    Draw number n depends on the seed, n, and the networks told before, in their order.

    Args:
        reach: What it may propose.
        seed: Seed of all draws.
    """

    def __init__(self, reach: Reach, *, seed: int) -> None:
        self._initial = reach.initial
        self._mutator = Mutator(reach, origin="evolution", seed=seed)
        self._told_hashes: set[str] = set()
        self._population: deque[_Member] = deque(maxlen=POPULATION_SIZE)

    def ask(self) -> Proposal:
        """The initial network, later a child that no trial has had."""
        return self._mutator.draw(self._pick_parent)

    def claimed(self, architecture: Architecture) -> None:
        """Go on to the next draw and propose this network no more."""
        self._mutator.claimed(architecture)

    def tell(self, architecture: Architecture, error: float | None) -> None:
        """Take a network with an error into the population; the oldest member makes room for it.

        Raises:
            ValueError: The error is not in 0..1.
        """
        check_error(error)
        if error is not None and architecture.content_hash not in self._told_hashes:
            self._told_hashes.add(architecture.content_hash)
            self._population.append(_Member(error, architecture))

    def _pick_parent(self, rng: random.Random) -> Architecture:
        if not self._population or rng.random() < FROM_SCRATCH_SHARE:
            return self._initial
        tournament = rng.choices(self._population, k=TOURNAMENT_SIZE)
        return min(tournament, key=lambda member: member.error).architecture
