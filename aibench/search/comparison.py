"""Searches compared: every algorithm with the same seeds, the same budget, and workers that overlap."""

from __future__ import annotations

import heapq
import math
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from aibench.api.space import Domain
from aibench.architecture import Architecture
from aibench.counting import count
from aibench.errors import ConfigError
from aibench.search.config import SearchConfig
from aibench.search.evaluator import ContestTrial, Evaluator, RunningTrial, TrialResult, TrialWork
from aibench.search.memory import MemoryLimit
from aibench.search.neutral import Specialise
from aibench.search.search import Candidate, Search

NUM_WORKERS = 8


class Improvement(msgspec.Struct, frozen=True, kw_only=True):
    """A new best error, known when so many operations had been spent."""

    ops: int
    error: float


class TrainedTrial(msgspec.Struct, frozen=True, kw_only=True):
    """A trial of a course that was really trained.

    Attributes:
        trial: Its number in the course; trials may end in another order than they were claimed in.
        ops: Operations of all trials that had ended when it had.
        error: None if it failed.
        processed_ops: Operations of the images that it processed.
        train_s: Seconds that it took.
    """

    trial: int
    ops: int
    error: float | None
    processed_ops: int
    train_s: float


class Course(msgspec.Struct, frozen=True, kw_only=True):
    """How one algorithm fared with one seed.

    Operations are those of all trials that had ended by then.

    Attributes:
        num_trials: Trials that ended within the budget.
        spent_ops: Operations of all trials; over the budget by less than the last trial claimed.
        improvements: New best errors within the budget, in order.
        trained: Trials that ended within the budget, in that order; empty where nothing was trained.
    """

    algorithm: str
    seed: int
    num_trials: int
    spent_ops: int
    improvements: tuple[Improvement, ...]
    trained: tuple[TrainedTrial, ...] = ()

    def best_error(self, ops: float) -> float | None:
        """The best error known after so many operations; None before the first."""
        # As floats: beyond 2^53 a rounded place could lie before the improvement that it was made from.
        known = [improvement.error for improvement in self.improvements if float(improvement.ops) <= ops]
        return known[-1] if known else None

    def normalized_score(self, ops: float, *, least_error: float) -> float | None:
        """-ln(best error) after so many operations, times the operations per second until then.

        The rate is that of one simulated worker over the trials that did not fail; where nothing was
        trained it is constant and left out. None before the first error.

        Args:
            least_error: Stands for smaller errors.
        """
        error = self.best_error(ops)
        if error is None:
            return None
        return self._ops_per_s(ops) * (0.0 - math.log(max(error, least_error)))

    def _ops_per_s(self, ops: float) -> float:
        done = [trial for trial in self.trained if trial.error is not None and float(trial.ops) <= ops]
        if not done:
            return 1.0
        return sum(trial.processed_ops for trial in done) / math.fsum(trial.train_s for trial in done)


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

    def first_candidate(self, seed: int) -> Candidate:
        """What a seed's first trial trains: every algorithm starts from the initial network."""
        return self.make_search(algorithm_names()[0], seed).ask(1)

    def first_trial_ops(self, seed: int) -> int:
        """Operations of a seed's first trial."""
        return self.work.ops(count(self.first_candidate(seed).architecture))


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
    trained: list[TrainedTrial] = []
    for trial in _ended_trials(contest, algorithm, seed):
        spent_ops += trial.ops
        if spent_ops > contest.budget_ops:
            continue
        num_trials += 1
        error = trial.result.error
        if error is not None and (not improvements or error < improvements[-1].error):
            improvements.append(Improvement(ops=spent_ops, error=error))
        trained.extend(_trained(trial, spent_ops))
    return Course(
        algorithm=algorithm,
        seed=seed,
        num_trials=num_trials,
        spent_ops=spent_ops,
        improvements=tuple(improvements),
        trained=tuple(trained),
    )


class _EndedTrial(typing.NamedTuple):
    number: int
    ops: int
    result: TrialResult


def _ended_trials(contest: Contest, algorithm: str, seed: int) -> Iterator[_EndedTrial]:
    """Trials in the order in which simulated workers end them; those in progress may really run at once."""
    search = contest.make_search(algorithm, seed)
    running: list[tuple[int, int, RunningTrial]] = []
    clock_ops = claimed_ops = num_claimed = 0
    while running or claimed_ops < contest.budget_ops:
        while len(running) < contest.num_workers and claimed_ops < contest.budget_ops:
            num_claimed += 1
            candidate = search.ask(num_claimed)
            trial = contest.evaluator.begin(
                ContestTrial(algorithm=algorithm, seed=seed, number=num_claimed, candidate=candidate)
            )
            claimed_ops += trial.ops
            heapq.heappush(running, (clock_ops + trial.ops, num_claimed, trial))
        clock_ops, number, trial = heapq.heappop(running)
        result = trial.result.result()
        search.tell(number, result.error)
        yield _EndedTrial(number, trial.ops, result)


def _trained(trial: _EndedTrial, spent_ops: int) -> Iterator[TrainedTrial]:
    if trial.result.training is not None:
        processed_ops, train_s = trial.result.training
        yield TrainedTrial(
            trial=trial.number,
            ops=spent_ops,
            error=trial.result.error,
            processed_ops=processed_ops,
            train_s=train_s,
        )
