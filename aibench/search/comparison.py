"""Searches compared: every algorithm with the same seeds, the same budget, and workers that overlap."""

from __future__ import annotations

import heapq
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from aibench.api.space import Domain
from aibench.architecture import Architecture
from aibench.counting import count
from aibench.errors import ConfigError
from aibench.search.config import SearchConfig
from aibench.search.evaluator import Evaluation, Evaluator, TrialWork
from aibench.search.memory import MemoryLimit
from aibench.search.neutral import Specialise
from aibench.search.search import Search

NUM_WORKERS = 8


class Improvement(msgspec.Struct, frozen=True, kw_only=True):
    """A new best error, known when so many operations had been spent."""

    ops: int
    error: float


class Course(msgspec.Struct, frozen=True, kw_only=True):
    """How one algorithm fared with one seed.

    Operations are those of all trials that had ended by then.

    Attributes:
        num_trials: Trials that ended within the budget.
        spent_ops: Operations of all trials; over the budget by less than the last trial claimed.
        improvements: New best errors within the budget, in order.
    """

    algorithm: str
    seed: int
    num_trials: int
    spent_ops: int
    improvements: tuple[Improvement, ...]

    def best_error(self, ops: float) -> float | None:
        """The best error known after so many operations; None before the first."""
        # As floats: beyond 2^53 a rounded place could lie before the improvement that it was made from.
        known = [improvement.error for improvement in self.improvements if float(improvement.ops) <= ops]
        return known[-1] if known else None


@dataclass(frozen=True, kw_only=True, slots=True)
class Contest:
    """What is the same for every algorithm.

    Attributes:
        config: The ``search`` section; its ``architecture`` is replaced by each algorithm's name.
        work: The images of a trial.
        budget_ops: Operations after which no trial starts.
        num_workers: Trials that run at the same time; 1 for one after another.
        memory: What training may take; None for no limit.
    """

    config: SearchConfig
    initial: Architecture
    space: Mapping[str, Domain]
    specialise: Specialise
    evaluator: Evaluator
    work: TrialWork
    budget_ops: int
    num_workers: int = NUM_WORKERS
    memory: MemoryLimit | None = None

    def make_search(self, algorithm: str, seed: int) -> Search:
        """A new search by this algorithm."""
        config = msgspec.structs.replace(self.config, architecture=algorithm)
        return Search(
            config,
            self.initial,
            space=self.space,
            specialise=self.specialise,
            seed=seed,
            memory=self.memory,
        )

    def first_trial_ops(self, seed: int) -> int:
        """Operations of a seed's first trial: every algorithm starts from the initial network."""
        first = self.make_search(algorithm_names()[0], seed).ask(1)
        return self.work.ops(count(first.architecture))


def algorithm_names() -> tuple[str, ...]:
    """Every architecture search that a configuration can name."""
    names: tuple[str, ...] = typing.get_args(typing.get_type_hints(SearchConfig)["architecture"])
    return names


def check_budget(contest: Contest, seeds: Sequence[int]) -> None:
    """Refuse a budget within which some seed would not end one trial.

    Raises:
        ConfigError: The first trial takes more.
    """
    least = max(contest.first_trial_ops(seed) for seed in seeds)
    if contest.budget_ops < least:
        raise ConfigError(
            "--budget",
            f"{contest.budget_ops:,} operations do not last for one trial; expected at least {least:,}",
        )


def run_courses(
    contest: Contest, algorithms: Sequence[str], seeds: Sequence[int], on_course: Callable[[], None]
) -> tuple[Course, ...]:
    """Run every algorithm with every seed.

    Args:
        on_course: Called after each.
    """
    courses: list[Course] = []
    for seed in seeds:
        for algorithm in algorithms:
            courses.append(run_course(contest, algorithm, seed))
            on_course()
    return tuple(courses)


def run_course(contest: Contest, algorithm: str, seed: int) -> Course:
    """Run one algorithm until its trials have claimed the budget, then let the running ones end.

    Workers are equally fast, so a trial lasts as long as its operations, and each worker asks for its next
    trial before it hears of those that still run.
    """
    spent_ops = num_trials = 0
    improvements: list[Improvement] = []
    for evaluation in _ended_trials(contest, contest.make_search(algorithm, seed), seed):
        spent_ops += evaluation.ops
        if spent_ops > contest.budget_ops:
            continue
        num_trials += 1
        error = evaluation.error
        if error is not None and (not improvements or error < improvements[-1].error):
            improvements.append(Improvement(ops=spent_ops, error=error))
    return Course(
        algorithm=algorithm,
        seed=seed,
        num_trials=num_trials,
        spent_ops=spent_ops,
        improvements=tuple(improvements),
    )


def _ended_trials(contest: Contest, search: Search, seed: int) -> Iterator[Evaluation]:
    """Evaluations in the order in which simulated workers end them."""
    running: list[tuple[int, int, Evaluation]] = []
    clock_ops = claimed_ops = num_claimed = 0
    while running or claimed_ops < contest.budget_ops:
        while len(running) < contest.num_workers and claimed_ops < contest.budget_ops:
            num_claimed += 1
            evaluation = contest.evaluator.evaluate(search.ask(num_claimed), seed)
            claimed_ops += evaluation.ops
            heapq.heappush(running, (clock_ops + evaluation.ops, num_claimed, evaluation))
        clock_ops, trial, evaluation = heapq.heappop(running)
        search.tell(trial, evaluation.error)
        yield evaluation
