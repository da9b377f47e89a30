"""Children of networks by morphs, as every search that morphs draws them."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from aibench.api.events import Lineage
from aibench.architecture import Architecture
from aibench.architecture.morphs import ALL_KINDS, Kinds, random_morph
from aibench.counting import count
from aibench.errors import ArchitectureError
from aibench.search.base import Proposal, initial_proposal

MAX_DRAWS = 8

PickParent = Callable[[random.Random], Architecture]
Fits = Callable[[Architecture], bool]


def always_fits(_: Architecture) -> bool:
    """Without a limit."""
    return True


@dataclass(frozen=True, kw_only=True, slots=True)
class Reach:
    """The networks that a search may propose.

    Attributes:
        initial: The network that the search starts from.
        max_morphs: Most morphs between a parent and its child.
        max_train_ops: Most training operations per image of a child, `aiperf_ops`.
        fits: Whether a network can be trained at all, such as in the memory there is.
        kinds: Of the morphs that are drawn.
    """

    initial: Architecture
    max_morphs: int
    max_train_ops: float
    fits: Fits = always_fits
    kinds: Kinds = ALL_KINDS


class Mutator:
    """Draws affordable children that no trial has had; the initial network is the first answer and the last.

    Draw number n depends on the seed, n, the networks claimed, and what the parent is picked from.

    Args:
        origin: Name of the search, for the lineage of the children.
        seed: Seed of all draws.
    """

    def __init__(self, reach: Reach, *, origin: str, seed: int) -> None:
        self._reach = reach
        self._origin = origin
        self._seed = seed
        self._num_claimed = 0
        self._claimed_hashes: set[str] = {reach.initial.content_hash}

    def draw(self, pick_parent: PickParent) -> Proposal:
        """The initial network, later a child of a parent picked for it.

        A child is drawn again, parent and all, while it costs too much or a trial has had it. After
        ``MAX_DRAWS`` draws the initial network is the parent, after as many again it is the answer.
        """
        if self.is_first:
            return initial_proposal(self._reach.initial)
        rng = self.next_rng()
        for number in range(2 * MAX_DRAWS):
            child = self._child(pick_parent(rng) if number < MAX_DRAWS else self._reach.initial, rng)
            if child is None:
                continue
            if self.is_new(child.architecture) and self.is_affordable(child.architecture):
                return child
        return initial_proposal(self._reach.initial)

    @property
    def is_first(self) -> bool:
        """Whether no trial was claimed yet."""
        return self._num_claimed == 0

    def next_rng(self) -> random.Random:
        """The random numbers of the next draw, the same until a trial is claimed.

        They are seeded by the number of the draw, so that a resumed search goes on instead of starting again.
        """
        return random.Random(f"{self._seed}:architecture:{self._num_claimed}")  # noqa: S311

    def claimed(self, architecture: Architecture) -> None:
        """Go on to the next draw and propose this network no more."""
        self._num_claimed += 1
        self._claimed_hashes.add(architecture.content_hash)

    def is_new(self, network: Architecture) -> bool:
        """Whether no trial has had the network."""
        return network.content_hash not in self._claimed_hashes

    def is_affordable(self, network: Architecture) -> bool:
        """Whether training the network costs no more than allowed."""
        return count(network).aiperf_ops.train <= self._reach.max_train_ops and self._reach.fits(network)

    def proposal(
        self,
        network: Architecture,
        *,
        parent: Architecture,
        morphs: tuple[str, ...],
        predicted_error: float | None = None,
    ) -> Proposal:
        """The network as this search's child of ``parent``, with the error expected of it."""
        lineage = Lineage(
            origin=self._origin,
            parent=parent.content_hash,
            morphs=morphs,
            predicted_error=predicted_error,
        )
        return Proposal(architecture=network, lineage=lineage)

    def _child(self, parent: Architecture, rng: random.Random) -> Proposal | None:
        network = parent
        morphs: list[str] = []
        for _ in range(rng.randint(1, self._reach.max_morphs)):
            try:
                network, morph = random_morph(network, rng, kinds=self._reach.kinds)
            except ArchitectureError:
                return None
            morphs.append(str(morph))
        return self.proposal(network, parent=parent, morphs=tuple(morphs))
