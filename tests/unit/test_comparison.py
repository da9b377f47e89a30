from __future__ import annotations

import math
import typing
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import Any

import pytest

from aibench.api.events import Lineage
from aibench.api.space import Domain
from aibench.architecture import Shape
from aibench.architecture.resnet import resnet
from aibench.counting import count
from aibench.errors import ConfigError
from aibench.search import comparison as comparison_module
from aibench.search.comparison import (
    Contest,
    Course,
    Improvement,
    TrainedTrial,
    algorithm_names,
    check_budget,
    run_course,
    run_courses,
)
from aibench.search.comparison_summary import Conditions, summarize
from aibench.search.config import SearchConfig
from aibench.search.evaluator import (
    ContestTrial,
    Evaluation,
    RunningTrial,
    Training,
    TrialResult,
    TrialWork,
    ended,
)
from aibench.search.landscape import SurrogateLandscape
from aibench.search.search import Candidate

INITIAL = resnet("resnet18", Shape(3, 8, 8), 10, width=4)
WORK = TrialWork(train_images=10, validation_images=5, epochs=2)
TRIAL_OPS = WORK.ops(count(INITIAL))
NUM_TRIALS = 12


class Recorder:
    """The landscape, and what it was asked."""

    def __init__(self) -> None:
        self._landscape = SurrogateLandscape(INITIAL, WORK)
        self.candidates: list[Candidate] = []
        self.ops: list[int] = []

    def begin(self, trial: ContestTrial) -> RunningTrial:
        running = self._landscape.begin(trial)
        self.candidates.append(trial.candidate)
        self.ops.append(running.ops)
        return running


class Script:
    """Evaluations given in advance, trial by trial."""

    def __init__(self, evaluations: Sequence[Evaluation]) -> None:
        self._evaluations = iter(evaluations)

    def begin(self, trial: ContestTrial) -> RunningTrial:
        return ended(next(self._evaluations))


class Trainer:
    """Keeps every result back until it is waited for."""

    def __init__(self, results: Sequence[TrialResult]) -> None:
        self._results = list(results)
        self.pending: list[Future[TrialResult]] = []
        self.most_pending = 0

    def begin(self, trial: ContestTrial) -> RunningTrial:
        self.pending.append(Late(self, self._results[trial.number - 1]))
        self.most_pending = max(self.most_pending, len(self.pending))
        return RunningTrial(10, self.pending[-1])


class Late(Future[TrialResult]):
    def __init__(self, trainer: Trainer, found: TrialResult) -> None:
        super().__init__()
        self._trainer, self._found = trainer, found

    def result(self, timeout: float | None = None) -> TrialResult:
        self._trainer.pending.remove(self)
        return self._found


class SearchSpy:
    """What a course asked of its search and told it."""

    def __init__(self, *_: Any, **__: Any) -> None:
        self.calls: list[str] = []

    def ask(self, trial: int) -> Candidate:
        self.calls.append(f"ask {trial}")
        return Candidate(architecture=INITIAL, lineage=Lineage(origin="initial"), hyper_parameters={})

    def tell(self, trial: int, error: float | None) -> None:
        self.calls.append(f"tell {trial}: {error}")


@pytest.fixture
def spy(monkeypatch: pytest.MonkeyPatch) -> SearchSpy:
    spy = SearchSpy()
    monkeypatch.setattr(comparison_module, "Search", lambda *_, **__: spy)
    return spy


def make_contest(evaluator: Any = None, **changes: Any) -> Contest:
    conditions: dict[str, Any] = {
        "config": SearchConfig(hyper_parameters="random"),
        "initial": INITIAL,
        "space": {"learning_rate": Domain(low=0.01, high=1.0, log=True)},
        "specialise": lambda architecture, _: architecture,
        "evaluator": evaluator or Recorder(),
        "work": WORK,
        "budget_ops": NUM_TRIALS * TRIAL_OPS,
    }
    return Contest(**{**conditions, **changes})


def make_courses(errors: Mapping[str, Sequence[float]]) -> list[Course]:
    return [
        Course(
            algorithm=name,
            seed=seed,
            num_trials=2,
            spent_ops=110,
            improvements=(Improvement(ops=20, error=0.5), Improvement(ops=60, error=error)),
        )
        for name, finals in errors.items()
        for seed, error in enumerate(finals)
    ]


def make_conditions(num_seeds: int) -> Conditions:
    return Conditions(
        name="test",
        aibench_version="0",
        rules_version="rules",
        evaluator="made up",
        on="landscape",
        least_error=0.001,
        initial_architecture="resnet18",
        architecture_hash=INITIAL.content_hash,
        budget_ops=100,
        trial_epochs=2,
        num_workers=8,
        seeds=tuple(range(num_seeds)),
        config={},
    )


def test_algorithms_are_those_that_a_configuration_can_name() -> None:
    assert algorithm_names() == typing.get_args(typing.get_type_hints(SearchConfig)["architecture"])
    assert {"random", "none"} <= set(algorithm_names())


def test_workers_ask_ahead_and_results_are_told_as_trials_end(spy: SearchSpy) -> None:
    script = Script([Evaluation(0.2, 30), Evaluation(0.5, 10), Evaluation(0.6, 10), Evaluation(0.1, 50)])
    course = run_course(make_contest(script, budget_ops=60, num_workers=2), "random", 7)
    assert spy.calls == [
        "ask 1", "ask 2", "tell 2: 0.5", "ask 3", "tell 3: 0.6", "ask 4", "tell 1: 0.2", "tell 4: 0.1",
    ]  # fmt: skip
    assert course == Course(
        algorithm="random",
        seed=7,
        num_trials=3,
        spent_ops=100,
        improvements=(Improvement(ops=10, error=0.5), Improvement(ops=50, error=0.2)),
    )


def test_one_worker_takes_one_trial_after_another(spy: SearchSpy) -> None:
    script = Script([Evaluation(0.5, 10)] * 3)
    run_course(make_contest(script, budget_ops=30, num_workers=1), "random", 1)
    assert spy.calls == ["ask 1", "tell 1: 0.5", "ask 2", "tell 2: 0.5", "ask 3", "tell 3: 0.5"]


def test_failed_trials_cost_but_are_no_best_error(spy: SearchSpy) -> None:
    script = Script([Evaluation(None, 10), Evaluation(0.5, 10)])
    course = run_course(make_contest(script, budget_ops=20, num_workers=1), "random", 1)
    assert (course.num_trials, course.improvements) == (2, (Improvement(ops=20, error=0.5),))
    assert course.best_error(19) is None
    assert course.best_error(20) == 0.5


def test_trials_in_progress_train_at_the_same_time(spy: SearchSpy) -> None:
    trainer = Trainer([TrialResult(0.5)] * 6)
    run_course(make_contest(trainer, budget_ops=60, num_workers=3), "random", 1)
    assert trainer.most_pending == 3
    assert spy.calls == [
        "ask 1", "ask 2", "ask 3", "tell 1: 0.5", "ask 4", "tell 2: 0.5", "ask 5", "tell 3: 0.5", "ask 6",
        "tell 4: 0.5", "tell 5: 0.5", "tell 6: 0.5",
    ]  # fmt: skip


def test_what_was_trained_is_kept_in_the_order_of_its_end(spy: SearchSpy) -> None:
    trainer = Trainer([TrialResult(0.5, Training(9, 3.0)), TrialResult(None, Training(0, 1.0))])
    course = run_course(make_contest(trainer, budget_ops=20, num_workers=1), "random", 1)
    assert course.trained == (
        TrainedTrial(trial=1, ops=10, error=0.5, processed_ops=9, train_s=3.0),
        TrainedTrial(trial=2, ops=20, error=None, processed_ops=0, train_s=1.0),
    )


def test_the_normalized_score_on_a_landscape_is_minus_ln_of_the_best_error() -> None:
    (course,) = make_courses({"a": [1e-9]})
    assert course.normalized_score(19, least_error=0.1) is None
    assert course.normalized_score(20, least_error=0.1) == pytest.approx(math.log(2))
    assert course.normalized_score(60, least_error=0.1) == pytest.approx(math.log(10))


def test_the_normalized_score_of_trained_trials_takes_their_rate_without_failed_ones() -> None:
    course = Course(
        algorithm="a",
        seed=1,
        num_trials=3,
        spent_ops=30,
        improvements=(Improvement(ops=10, error=0.5),),
        trained=(
            TrainedTrial(trial=1, ops=10, error=0.5, processed_ops=8, train_s=2.0),
            TrainedTrial(trial=2, ops=20, error=None, processed_ops=1, train_s=9.0),
            TrainedTrial(trial=3, ops=30, error=0.6, processed_ops=10, train_s=1.0),
        ),
    )
    assert course.normalized_score(20, least_error=0.1) == pytest.approx(4 * math.log(2))
    assert course.normalized_score(30, least_error=0.1) == pytest.approx(6 * math.log(2))


def test_a_comparison_says_how_the_score_converges() -> None:
    # Scores from 20 on: ln 2 until 60; then ln 4 and ln 8, mean 2.5 ln 2, deviation ln 2 / sqrt 2.
    result = summarize(make_conditions(2), make_courses({"a": [0.25, 0.125]}))
    (algorithm,) = result.algorithms
    assert [point.length for point in algorithm.convergence] == [25.0, 50.0, 100.0]
    assert [point.spread for point in algorithm.convergence] == pytest.approx([0, 0, 0.5 / 2.5 * 2**0.5])
    assert algorithm.convergence[0].slope is None
    assert [point.slope for point in algorithm.convergence[1:]] == pytest.approx([0.0, 1.5])
    assert algorithm.convergence_sentence == (
        "From 1/4 of the budget to the whole budget the spread between seeds grew from 0.0 % to 28.3 %; the "
        "slope per doubling (known from 1/2 of the budget on) grew from +0.0 % to +150.0 %."
    )
    assert result.convergence_remark == (
        "Normalized score: -ln(best error) times operations per second, which are constant on a landscape "
        "and left out. Estimated from 2 seeds, a spread is itself uncertain by about 71 % of its value."
    )


@pytest.mark.parametrize("algorithm", algorithm_names())
def test_budgets_are_equal_up_to_one_trial(algorithm: str) -> None:
    recorder = Recorder()
    course = run_course(make_contest(recorder), algorithm, 1)
    assert sum(recorder.ops) == course.spent_ops
    assert 0 <= course.spent_ops - NUM_TRIALS * TRIAL_OPS < recorder.ops[-1]
    assert course.improvements[-1].ops <= NUM_TRIALS * TRIAL_OPS


@pytest.mark.parametrize("algorithm", algorithm_names())
def test_courses_repeat_exactly_and_follow_their_seed(algorithm: str) -> None:
    first, again, other = (run_course(make_contest(), algorithm, seed) for seed in (1, 1, 2))
    assert first == again
    assert first.improvements != other.improvements


def test_equal_seeds_begin_with_equal_draws_under_every_algorithm() -> None:
    starts = []
    for algorithm in algorithm_names():
        recorder = Recorder()
        run_course(make_contest(recorder), algorithm, 1)
        starts.append(
            (recorder.candidates[0].architecture, [c.hyper_parameters for c in recorder.candidates[:8]])
        )
    assert starts == [starts[0]] * len(starts)
    assert starts[0][0] == INITIAL


def test_courses_come_seed_by_seed_and_progress_is_told() -> None:
    calls: list[None] = []
    courses = run_courses(
        make_contest(budget_ops=TRIAL_OPS), ("none", "random"), (3, 4), lambda: calls.append(None)
    )
    assert [(course.seed, course.algorithm) for course in courses] == [
        (3, "none"), (3, "random"), (4, "none"), (4, "random"),
    ]  # fmt: skip
    assert len(calls) == 4


def test_budget_must_last_for_one_trial() -> None:
    check_budget(make_contest(budget_ops=TRIAL_OPS), (1, 2))
    with pytest.raises(
        ConfigError,
        match=f"^--budget: 999 operations do not last for one trial; expected at least {TRIAL_OPS:,}$",
    ):
        check_budget(make_contest(budget_ops=999), (1, 2))


def test_a_consistent_advantage_is_significant() -> None:
    courses = make_courses({"none": [0.2] * 6, "random": [0.19, 0.18, 0.17, 0.16, 0.15, 0.14]})
    result = summarize(make_conditions(6), courses)
    assert [(a.algorithm, a.mean_rank, a.mean_trials) for a in result.algorithms] == [
        ("random", 1.0, 2.0),
        ("none", 2.0, 2.0),
    ]
    (pair,) = result.pairs
    assert (pair.first, pair.second, pair.first_wins, pair.second_wins) == ("random", "none", 6, 0)
    assert pair.difference == pytest.approx(-0.035)
    assert pair.p_value == pair.adjusted_p_value == 2 / 64
    assert pair.is_significant
    assert pair.sentence == (
        "random beats none: lower error with 6 of 6 seeds, by 3.5 percentage points on average; "
        "significant, adjusted p 0.031."
    )
    assert result.remark == ""


def test_a_difference_that_is_not_significant_is_said_to_be_none() -> None:
    courses = make_courses({"none": [0.2] * 6, "random": [0.19, 0.18, 0.17, 0.16, 0.15, 0.26]})
    (pair,) = summarize(make_conditions(6), courses).pairs
    # Negative ranks 1 to 5 against rank 6: sums of at most 6 from 1 to 6 are 14.
    assert pair.p_value == 28 / 64
    assert not pair.is_significant
    assert pair.sentence == (
        "The difference between random and none is not significant, adjusted p 0.438: random had the lower "
        "error with 5 of 6 seeds, by 1.5 percentage points on average, which may be chance."
    )


def test_several_pairs_make_significance_harder() -> None:
    errors = {"a": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6], "b": [0.2, 0.4, 0.6, 0.8, 0.9, 0.95], "c": [0.99] * 6}
    pairs = summarize(make_conditions(6), make_courses(errors)).pairs
    assert [pair.p_value for pair in pairs] == [2 / 64] * 3
    assert [pair.adjusted_p_value for pair in pairs] == [6 / 64] * 3
    assert not any(pair.is_significant for pair in pairs)


def test_too_few_seeds_are_pointed_out() -> None:
    result = summarize(make_conditions(4), make_courses({"a": [0.1] * 4, "b": [0.2] * 4}))
    assert not result.pairs[0].is_significant
    assert result.remark == (
        "4 seeds are too few for any difference to be significant (adjusted p below 0.05); "
        "it takes at least 6."
    )


def test_equal_errors_are_called_equal() -> None:
    (pair,) = summarize(make_conditions(2), make_courses({"a": [0.1, 0.2], "b": [0.1, 0.2]})).pairs
    assert pair.sentence == "a and b reached the same error with every seed."


def test_one_algorithm_has_a_curve_and_no_pairs() -> None:
    result = summarize(make_conditions(2), make_courses({"a": [0.1, 0.2]}))
    assert (result.pairs, result.remark) == ((), "")
    assert result.algorithms[0].final.mean == pytest.approx(0.15)


def test_curves_hold_the_best_error_from_the_last_course_s_first_result_to_the_budget() -> None:
    courses = make_courses({"a": [0.1, 0.3], "b": [0.2, 0.2]})
    late = Course(
        algorithm="b",
        seed=1,
        num_trials=1,
        spent_ops=40,
        improvements=(Improvement(ops=40, error=0.2),),
    )
    curve = summarize(make_conditions(2), [*courses[:3], late]).algorithms[0].curve
    assert (curve[0].ops, curve[-1].ops, len(curve)) == (40.0, 100.0, 101)
    at_59, at_60 = (next(point for point in curve if point.ops >= ops) for ops in (59.0, 60.0))
    assert [at_59.mean, at_60.mean] == pytest.approx([0.5, 0.2])


def test_operations_beyond_the_precision_of_floats_keep_every_course_s_first_error() -> None:
    ops = 2**60 + 1
    courses = [
        Course(
            algorithm=name,
            seed=seed,
            num_trials=1,
            spent_ops=ops,
            improvements=(Improvement(ops=ops, error=0.25),),
        )
        for name in ("a", "b")
        for seed in (0, 1)
    ]
    result = summarize(make_conditions(2), courses)
    assert result.algorithms[0].curve[0].mean == 0.25


def test_course_without_any_error_is_refused() -> None:
    empty = Course(algorithm="a", seed=3, num_trials=0, spent_ops=10, improvements=())
    with pytest.raises(ConfigError, match="a with seed 3 ended no trial with an error within the budget"):
        summarize(make_conditions(2), [empty])


def test_a_course_whose_trials_all_failed_does_not_ask_for_more_operations() -> None:
    failed = Course(algorithm="a", seed=3, num_trials=4, spent_ops=10, improvements=())
    with pytest.raises(ConfigError, match=r"search\.space: all 4 trials of a with seed 3 failed"):
        summarize(make_conditions(2), [failed])
