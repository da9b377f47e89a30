"""Random search by morphs: the baseline every cleverer search must beat."""

from __future__ import annotations

import bisect
import random

from aibench.architecture import Architecture
from aibench.architecture.morphs import ALL_KINDS, Kinds
from aibench.search.base import Proposal, check_error
from aibench.search.mutator import Fits, Mutator, always_fits


class RandomArchitectureSearch:
    """An `ArchitectureSearch` that morphs a parent drawn uniformly from all networks with a known error.

    The initial network is always one of the parents. Draw number n depends on the seed, n, and the set of
    networks told before, not on their order.

    Args:
        initial: The network that the search starts from.
        max_morphs: Most morphs between a parent and its child.
        max_train_ops: Most training operations per image of a child, `aiperf_ops`.
        seed: Seed of all draws.
        fits: Whether a network can be trained at all, such as in the memory there is.
        kinds: Of the morphs that are drawn.
    """

    def __init__(
        self,
        initial: Architecture,
        *,
        max_morphs: int,
        max_train_ops: float,
        seed: int,
        fits: Fits = always_fits,
        kinds: Kinds = ALL_KINDS,
    ) -> None:
        self._mutator = Mutator(
            initial,
            origin="random",
            max_morphs=max_morphs,
            max_train_ops=max_train_ops,
            seed=seed,
            fits=fits,
            kinds=kinds,
        )
        self._parents: dict[str, Architecture] = {initial.content_hash: initial}
        self._parent_hashes = [initial.content_hash]

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
