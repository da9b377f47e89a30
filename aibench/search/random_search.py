"""Random search by morphs: the baseline every cleverer search must beat."""

from __future__ import annotations

import bisect
import random

from aibench.api.events import Lineage
from aibench.architecture import Architecture
from aibench.architecture.morphs import random_morph
from aibench.counting import count
from aibench.errors import ArchitectureError
from aibench.search.base import Proposal, check_error, initial_proposal

MAX_DRAWS = 8


class RandomArchitectureSearch:
    """An `ArchitectureSearch` that morphs a parent drawn uniformly from all networks with a known error.

    The initial network is the first answer and always one of the parents. A child is drawn again, parent and
    all, while it costs too much or a trial has had it; after ``MAX_DRAWS`` draws the answer is the initial
    network. Draw number n depends on the seed, n, and the set of networks told before, not on their order.

    Args:
        initial: The network that the search starts from.
        max_morphs: Most morphs between a parent and its child.
        max_train_ops: Most training operations per image of a child, `aiperf_ops`.
        seed: Seed of all draws.
    """

    def __init__(self, initial: Architecture, *, max_morphs: int, max_train_ops: float, seed: int) -> None:
        self._initial = initial
        self._max_morphs = max_morphs
        self._max_train_ops = max_train_ops
        self._seed = seed
        self._num_claimed = 0
        self._claimed_hashes: set[str] = {initial.content_hash}
        self._parents: dict[str, Architecture] = {initial.content_hash: initial}
        self._parent_hashes = [initial.content_hash]

    def ask(self) -> Proposal:
        """The initial network, later a child that no trial has had."""
        if self._num_claimed == 0:
            return initial_proposal(self._initial)
        # Seeded by the number of the draw, so that a resumed search goes on instead of starting again.
        rng = random.Random(f"{self._seed}:architecture:{self._num_claimed}")  # noqa: S311
        for _ in range(MAX_DRAWS):
            child = self._child(rng)
            if child is not None and self._is_wanted(child.architecture):
                return child
        return initial_proposal(self._initial)

    def claimed(self, architecture: Architecture) -> None:
        """Go on to the next draw and propose this network no more."""
        self._num_claimed += 1
        self._claimed_hashes.add(architecture.content_hash)

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

    def _child(self, rng: random.Random) -> Proposal | None:
        parent = self._parents[rng.choice(self._parent_hashes)]
        network = parent
        morphs: list[str] = []
        for _ in range(rng.randint(1, self._max_morphs)):
            try:
                network, morph = random_morph(network, rng)
            except ArchitectureError:
                return None
            morphs.append(str(morph))
        lineage = Lineage(origin="random", parent=parent.content_hash, morphs=tuple(morphs))
        return Proposal(architecture=network, lineage=lineage)

    def _is_wanted(self, network: Architecture) -> bool:
        if network.content_hash in self._claimed_hashes:
            return False
        return count(network).aiperf_ops.train <= self._max_train_ops
