"""What a comparison of searches came to: bands, ranks, and which differences are significant."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal

import msgspec
import numpy as np

from aibench.convergence import (
    ConvergencePoint,
    convergence_points,
    convergence_sentence,
    lengths,
    relative_uncertainty,
)
from aibench.errors import ConfigError
from aibench.search.comparison import Course
from aibench.search.paired import Floats, SignedRankTest, bootstrap_band, holm, mean_ranks, signed_rank_test

FORMAT = "aibench-comparison/1"
SIGNIFICANCE = 0.05
NUM_CURVE_POINTS = 101


class Conditions(msgspec.Struct, frozen=True, kw_only=True):
    """Under which conditions the algorithms were compared.

    Attributes:
        evaluator: What the errors are, in a sentence.
        on: Whether errors come from a test landscape or from training the workload.
        least_error: Below it, errors count as it in a normalized score: 1 / validation images.
        config: The resolved configuration.
    """

    name: str
    aibench_version: str
    rules_version: str
    evaluator: str
    on: Literal["landscape", "workload"]
    least_error: float
    initial_architecture: str
    architecture_hash: str
    budget_ops: int
    trial_epochs: int
    num_workers: int
    seeds: tuple[int, ...]
    config: dict[str, Any]


class CurvePoint(msgspec.Struct, frozen=True, kw_only=True):
    """Best error after so many operations: mean over the seeds and its 95 % confidence band."""

    ops: float
    mean: float
    low: float
    high: float


class AlgorithmSummary(msgspec.Struct, frozen=True, kw_only=True):
    """One algorithm over all seeds.

    Attributes:
        mean_rank: Of its best error at the budget's end; 1 is best.
        mean_trials: Trials that ended within the budget.
        curve: Over the operations, from where every course has an error to the budget's end.
        convergence: Normalized score over the seeds after a sixteenth of the budget to the whole of it.
        convergence_sentence: How its spread and slope changed from the first to the last.
    """

    algorithm: str
    mean_rank: float
    mean_trials: float
    curve: tuple[CurvePoint, ...]
    convergence: tuple[ConvergencePoint, ...]
    convergence_sentence: str

    @property
    def final(self) -> CurvePoint:
        """At the budget's end."""
        return self.curve[-1]


class Pair(msgspec.Struct, frozen=True, kw_only=True):
    """Two algorithms, the one that the signed ranks favour first.

    Attributes:
        difference: Mean over the seeds of the first one's best error less the other's.
        first_wins: Seeds with which the first one's error was the smaller.
        second_wins: Seeds with which the other's was.
        p_value: Of Wilcoxon's signed-rank test, two-sided, exact.
        adjusted_p_value: The same, corrected for the number of pairs (Holm).
    """

    first: str
    second: str
    difference: float
    first_wins: int
    second_wins: int
    p_value: float
    adjusted_p_value: float
    is_significant: bool
    sentence: str


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """The whole result; algorithms by mean rank, best first.

    Attributes:
        remark: That so few seeds could not make any difference significant; empty where they can.
        convergence_remark: What the normalized score is, and how uncertain its spread.
    """

    format: str
    conditions: Conditions
    algorithms: tuple[AlgorithmSummary, ...]
    pairs: tuple[Pair, ...]
    remark: str
    convergence_remark: str
    courses: tuple[Course, ...]


def summarize(conditions: Conditions, courses: Sequence[Course]) -> Comparison:
    """Compare courses of the same seeds under every algorithm.

    Raises:
        ConfigError: Some course found no error within the budget.
    """
    names = tuple(dict.fromkeys(course.algorithm for course in courses))
    first_ops = max(_first_ops(course) for course in courses)
    grid = np.linspace(first_ops, conditions.budget_ops, NUM_CURVE_POINTS)
    errors = {name: _errors([c for c in courses if c.algorithm == name], grid) for name in names}
    finals = {name: errors[name][:, -1] for name in names}
    ranks = mean_ranks(np.array(list(finals.values())))
    pairs = compare_pairs(finals)
    order = sorted(range(len(names)), key=lambda place: (ranks[place], names[place]))
    return Comparison(
        format=FORMAT,
        conditions=conditions,
        algorithms=tuple(
            _algorithm(
                conditions,
                [course for course in courses if course.algorithm == names[place]],
                mean_rank=float(ranks[place]),
                curve=_curve(grid, errors[names[place]]),
            )
            for place in order
        ),
        pairs=pairs,
        remark=_remark(len(conditions.seeds), len(pairs)) if pairs else "",
        convergence_remark=_convergence_remark(conditions),
        courses=tuple(courses),
    )


def compare_pairs(finals: Mapping[str, Floats]) -> tuple[Pair, ...]:
    """Every pair of algorithms, by p-value.

    Args:
        finals: Best error by algorithm, each of shape [seeds], seeds in the same order.
    """
    couples = list(itertools.combinations(finals, 2))
    tests = [signed_rank_test((finals[a] - finals[b]).tolist()) for a, b in couples]
    adjusted = holm([test.p_value for test in tests])
    pairs = [
        _pair((a, b) if test.balance <= 0 else (b, a), finals, test, adjusted_p_value)
        for (a, b), test, adjusted_p_value in zip(couples, tests, adjusted, strict=True)
    ]
    return tuple(sorted(pairs, key=lambda pair: pair.p_value))


def _pair(
    couple: tuple[str, str], finals: Mapping[str, Floats], test: SignedRankTest, adjusted_p_value: float
) -> Pair:
    first, second = couple
    differences = finals[first] - finals[second]
    pair = Pair(
        first=first,
        second=second,
        difference=float(differences.mean()),
        first_wins=int((differences < 0).sum()),
        second_wins=int((differences > 0).sum()),
        p_value=test.p_value,
        adjusted_p_value=adjusted_p_value,
        is_significant=adjusted_p_value < SIGNIFICANCE,
        sentence="",
    )
    return msgspec.structs.replace(pair, sentence=_sentence(pair, len(differences)))


def _sentence(pair: Pair, num_seeds: int) -> str:
    if not pair.first_wins and not pair.second_wins:
        return f"{pair.first} and {pair.second} reached the same error with every seed."
    found = (
        f"lower error with {pair.first_wins} of {num_seeds} seeds, "
        f"by {-100 * pair.difference:.2g} percentage points on average"
    )
    p_text = "below 0.001" if pair.adjusted_p_value < 0.001 else f"{pair.adjusted_p_value:.3f}"
    if pair.is_significant:
        return f"{pair.first} beats {pair.second}: {found}; significant, adjusted p {p_text}."
    return (
        f"The difference between {pair.first} and {pair.second} is not significant, adjusted p {p_text}: "
        f"{pair.first} had the {found}, which may be chance."
    )


def _remark(num_seeds: int, num_pairs: int) -> str:
    """Every seed may speak for the same algorithm, and yet p is no smaller than 2 / 2^seeds in each pair."""
    least = num_pairs * 2 / 2**num_seeds
    if least < SIGNIFICANCE:
        return ""
    needed = next(n for n in itertools.count(num_seeds) if num_pairs * 2 / 2**n < SIGNIFICANCE)
    return (
        f"{num_seeds} seeds are too few for any difference to be significant (adjusted p below "
        f"{SIGNIFICANCE}); it takes at least {needed}."
    )


def _first_ops(course: Course) -> int:
    if not course.improvements and course.num_trials:
        raise ConfigError(
            "search.space",
            f"all {course.num_trials} trials of {course.algorithm} with seed {course.seed} failed: no way to "
            "compare them; expected values that this workload can train with",
        )
    if not course.improvements:
        raise ConfigError(
            "--budget",
            f"{course.algorithm} with seed {course.seed} ended no trial with an error within the budget; "
            "expected more operations",
        )
    return course.improvements[0].ops


def _errors(courses: Sequence[Course], grid: Floats) -> Floats:
    """Best errors, shape [seeds, grid]; every course knows one from the grid's start on."""
    return np.array([[course.best_error(ops) for ops in grid.tolist()] for course in courses], dtype=float)


def _curve(grid: Floats, errors: Floats) -> tuple[CurvePoint, ...]:
    band = bootstrap_band(errors)
    return tuple(
        CurvePoint(ops=ops, mean=mean, low=low, high=high)
        for ops, mean, low, high in zip(
            grid.tolist(), band.mean.tolist(), band.low.tolist(), band.high.tolist(), strict=True
        )
    )


def _algorithm(
    conditions: Conditions, courses: Sequence[Course], *, mean_rank: float, curve: tuple[CurvePoint, ...]
) -> AlgorithmSummary:
    places = lengths(float(conditions.budget_ops))
    least_error = conditions.least_error
    scores = [[course.normalized_score(ops, least_error=least_error) for ops in places] for course in courses]
    points = convergence_points(places, scores)
    return AlgorithmSummary(
        algorithm=courses[0].algorithm,
        mean_rank=mean_rank,
        mean_trials=sum(course.num_trials for course in courses) / len(courses),
        curve=curve,
        convergence=points,
        convergence_sentence=convergence_sentence(
            points, "seeds", partial(_share_text, conditions.budget_ops)
        ),
    )


def _share_text(budget_ops: int, ops: float) -> str:
    divisor = round(budget_ops / ops)
    return "the whole budget" if divisor == 1 else f"1/{divisor} of the budget"


def _convergence_remark(conditions: Conditions) -> str:
    rate = (
        "the operations per second of one simulated worker, as measured over its trials"
        if conditions.on == "workload"
        else "operations per second, which are constant on a landscape and left out"
    )
    uncertainty = relative_uncertainty(len(conditions.seeds))
    return (
        f"Normalized score: -ln(best error) times {rate}. Estimated from {len(conditions.seeds)} seeds, "
        f"a spread is itself uncertain by about {100 * uncertainty:.0f} % of its value."
    )
