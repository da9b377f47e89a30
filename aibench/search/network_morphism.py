"""Network morphism guided by a Gaussian process: of many morphed networks the most promising is proposed.

Sources: Jin et al., "Auto-Keras: An Efficient Neural Architecture Search System", arXiv:1806.10282, and
AIPerf, which searches by it; both bound the error from below by the surrogate and look for the least bound
along sequences of morphs. Different here: the surrogate's distance (`aibench.search.embedding`), one kernel
for learning and predicting, and hill climbing over the sequences. The weight of uncertainty is drawn anew for
every proposal, which keeps many workers from asking for the same: Hutter et al., "Parallel Algorithm
Configuration", LION 2012.
"""

from __future__ import annotations

import bisect
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from aibench.architecture import Architecture
from aibench.architecture.morphs import random_morph
from aibench.errors import ArchitectureError
from aibench.search.base import Proposal, check_error
from aibench.search.embedding import embed
from aibench.search.mutator import Mutator, Reach
from aibench.search.surrogate import ERROR_OFFSET, Surrogate, error_of

NUM_PARENTS = 8
FROM_SCRATCH_SHARE = 0.1
MEAN_UNCERTAINTY_WEIGHT = 2.0

# Candidates per proposal grow with the history: predictions grow dearer too, and more is worth looking for.
MIN_CANDIDATES = 9
MAX_CANDIDATES = 24
RESULTS_PER_CANDIDATE = 10


class _Parent(NamedTuple):
    error: float
    number: int
    architecture: Architecture


class _Sequence(NamedTuple):
    """A network and the morphs that made it from its parent."""

    network: Architecture
    parent: Architecture
    morphs: tuple[str, ...] = ()


class _Bounded(NamedTuple):
    """A sequence with the lower bound and the mean that are predicted for its error's logarithm.

    ``hoped_error`` is the error's own lower bound by the mean weight of uncertainty: proposals compare by it.
    """

    bound: float
    mean: float
    hoped_error: float
    sequence: _Sequence


class NetworkMorphismSearch:
    """An `ArchitectureSearch` by Bayesian optimisation over morphs of the best networks.

    Draw number n depends on the seed, n, and the networks told before, in their order.

    Args:
        reach: What it may propose.
        seed: Seed of all draws.
        num_candidates: Networks that are compared for a proposal; None for few, as befits a search that is
            waited for.
    """

    def __init__(self, reach: Reach, *, seed: int, num_candidates: int | None = None) -> None:
        self._reach = reach
        self._num_candidates = num_candidates
        self._mutator = Mutator(reach, origin="network_morphism", seed=seed)
        self._surrogate = Surrogate()
        self._told_hashes: set[str] = set()
        self._parents: list[_Parent] = []

    def ask(self) -> Proposal:
        """The initial network, later the child with the least bound found that no trial has had."""
        best = None if self._mutator.is_first else self._best_child(self._mutator.next_rng())
        if best is None:
            return self._mutator.draw(self._pick_parent)
        child = best.sequence
        proposal = self._mutator.proposal(
            child.network,
            parent=child.parent,
            morphs=child.morphs,
            predicted_error=error_of(best.mean),
        )
        return replace(proposal, bound=best.hoped_error)

    def claimed(self, architecture: Architecture) -> None:
        """Go on to the next draw and propose this network no more."""
        self._mutator.claimed(architecture)

    def tell(self, architecture: Architecture, error: float | None) -> None:
        """Learn the error of a network; the best ones become parents.

        Raises:
            ValueError: The error is not in 0..1.
        """
        check_error(error)
        content_hash = architecture.content_hash
        if error is None or content_hash in self._told_hashes:
            return
        self._told_hashes.add(content_hash)
        self._surrogate.tell(embed(architecture), error)
        bisect.insort(self._parents, _Parent(error, len(self._told_hashes), architecture))
        del self._parents[NUM_PARENTS:]

    def _pick_parent(self, rng: random.Random) -> Architecture:
        if not self._parents or rng.random() < FROM_SCRATCH_SHARE:
            return self._reach.initial
        return self._parents[int(len(self._parents) * rng.random() ** 2)].architecture

    def _best_child(self, rng: random.Random) -> _Bounded | None:
        """Climb from the best of some children of parents to the best of its own children, and so on."""
        if not self._told_hashes:
            return None
        weight = rng.expovariate(1.0 / MEAN_UNCERTAINTY_WEIGHT)
        num_candidates = self._num_candidates or self._few_candidates()
        num_rounds = min(self._reach.max_morphs, num_candidates)
        best: _Bounded | None = None
        for _ in range(num_rounds):
            children = self._children(best and best.sequence, num_candidates // num_rounds, rng)
            for child in self._by_bound(children, weight):
                is_better = best is None or child.bound < best.bound
                if is_better and self._mutator.is_affordable(child.sequence.network):
                    best = child
                    break
        return best

    def _few_candidates(self) -> int:
        num_candidates = len(self._told_hashes) // RESULTS_PER_CANDIDATE
        return min(max(num_candidates, MIN_CANDIDATES), MAX_CANDIDATES)

    def _children(self, best: _Sequence | None, num_children: int, rng: random.Random) -> list[_Sequence]:
        """New networks one morph away from the best one, or each from a parent of its own without one."""
        children = []
        for _ in range(num_children):
            if best is None:
                parent = self._pick_parent(rng)
                source = _Sequence(parent, parent)
            else:
                source = best
            try:
                network, morph = random_morph(source.network, rng, kinds=self._reach.kinds)
            except ArchitectureError:
                continue
            if self._mutator.is_new(network):
                children.append(_Sequence(network, source.parent, (*source.morphs, str(morph))))
        return children

    def _by_bound(self, children: Sequence[_Sequence], weight: float) -> list[_Bounded]:
        """Children with the lower bounds of their errors' logarithms, least first."""
        if not children:
            return []
        means, deviations = self._surrogate.predict(np.array([embed(child.network) for child in children]))
        bounds: list[float] = (means - weight * deviations).tolist()
        hopes = np.exp(means - MEAN_UNCERTAINTY_WEIGHT * deviations) - ERROR_OFFSET
        bounded = map(_Bounded, bounds, means.tolist(), hopes.tolist(), children)
        return sorted(bounded, key=lambda child: child.bound)
