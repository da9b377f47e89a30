"""What a comparison of searches asks for a candidate's error: a surrogate, or a workload that trains it."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from aibench.counting import NetworkCount
from aibench.search.search import Candidate


class Evaluation(NamedTuple):
    """What a surrogate answers for one trial.

    Attributes:
        error: Best validation error in 0..1; None if the trial failed.
        ops: Operations of the whole trial, `aiperf_ops`; above 0.
    """

    error: float | None
    ops: int


class Training(NamedTuple):
    """What really training a trial took.

    Attributes:
        processed_ops: Operations of the images that were processed in finished epochs.
        train_s: From the trial's receipt to its end; above 0.
    """

    processed_ops: int
    train_s: float


class TrialResult(NamedTuple):
    """How a trial ended.

    Attributes:
        error: Best validation error in 0..1; None if the trial failed.
        training: None where nothing was trained.
    """

    error: float | None
    training: Training | None = None


class RunningTrial(NamedTuple):
    """A trial that has begun; what it takes is known before what it finds.

    Attributes:
        ops: Operations of the whole trial, also if it fails: a search cannot buy time by failing, and the
            order in which simulated workers end their trials does not depend on results.
    """

    ops: int
    result: Future[TrialResult]


@dataclass(frozen=True, kw_only=True, slots=True)
class ContestTrial:
    """One trial of one course; ``number`` counts from 1 within it."""

    algorithm: str
    seed: int
    number: int
    candidate: Candidate


class Evaluator(Protocol):
    """Trains candidates, or pretends to."""

    def begin(self, trial: ContestTrial) -> RunningTrial:
        """Begin the trial; trials that have begun may run at the same time.

        The result is the same again for the same candidate, seed and number.
        """
        ...


def ended(evaluation: Evaluation) -> RunningTrial:
    """A trial whose result is known as soon as it begins."""
    result: Future[TrialResult] = Future()
    result.set_result(TrialResult(evaluation.error))
    return RunningTrial(evaluation.ops, result)


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
