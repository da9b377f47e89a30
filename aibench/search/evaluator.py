"""What a comparison of searches asks for a candidate's error: a surrogate, or a workload that trains it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

from aibench.counting import NetworkCount
from aibench.search.search import Candidate


class Evaluation(NamedTuple):
    """What one trial found and what it took.

    Attributes:
        error: Best validation error in 0..1; None if the trial failed.
        ops: Operations spent, `aiperf_ops`; above 0.
    """

    error: float | None
    ops: int


class Evaluator(Protocol):
    """Trains candidates, or pretends to."""

    def evaluate(self, candidate: Candidate, seed: int) -> Evaluation:
        """Train the candidate; the same again for the same candidate and seed."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialWork:
    """The images of one whole trial; counted as the score counts them."""

    train_images: int
    validation_images: int
    epochs: int

    def ops(self, counts: NetworkCount) -> int:
        """Operations of a trial of this network, validation after every epoch included."""
        operations = counts.aiperf_ops
        return self.epochs * (
            self.train_images * operations.train + self.validation_images * operations.forward
        )
