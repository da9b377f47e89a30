from __future__ import annotations

import itertools
import logging
import statistics
import sys
from collections.abc import Sequence
from typing import Any

import pytest

from aibench.api.space import Domain
from aibench.api.workload import HyperParameters
from aibench.errors import ConfigError
from aibench.search import optuna_sampler
from aibench.search.config import SamplerName
from aibench.search.hyperparameters import HyperParameterSearch

SPACE = {
    "learning_rate": Domain(low=0.001, high=1.0, log=True),
    "momentum": Domain(low=0.5, high=0.99),
    "batch_size": Domain(choices=(64, 128, 256)),
    "kernel": Domain(choices=(3, 0.5, "auto")),
    "constant": Domain(low=0.1, high=0.1),
}
SAMPLERS: list[SamplerName] = ["tpe", "cma_es", "nsga_ii", "random"]
LEARNING = SAMPLERS[:3]


def search(
    sampler: SamplerName = "tpe",
    *,
    seed: int = 1,
    space: dict[str, Domain] = SPACE,
    first_points: Sequence[HyperParameters] = (),
) -> HyperParameterSearch:
    return HyperParameterSearch(space, sampler=sampler, seed=seed, first_points=first_points)


def ask(study: HyperParameterSearch, trial: int) -> dict[str, Any]:
    drawn = next(study.draws(trial))
    study.start(trial, drawn)
    return drawn


def accuracy_of(drawn: dict[str, Any]) -> float:
    return float(1.0 - abs(drawn["momentum"] - 0.9))


def run(study: HyperParameterSearch, trials: range) -> list[dict[str, Any]]:
    draws = []
    for trial in trials:
        draws.append(ask(study, trial))
        study.tell(trial, accuracy_of(draws[-1]))
    return draws


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_draws_lie_in_their_domains_and_keep_their_types(sampler: SamplerName) -> None:
    draws = run(search(sampler), range(1, 41))
    for drawn in draws:
        assert drawn.keys() == SPACE.keys()
        assert 0.001 <= drawn["learning_rate"] <= 1.0
        assert 0.5 <= drawn["momentum"] <= 0.99
        assert {type(drawn["batch_size"]), type(drawn["learning_rate"])} == {int, float}
        assert drawn["constant"] == 0.1
    assert {drawn["batch_size"] for drawn in draws} == {64, 128, 256}
    assert {(type(drawn["kernel"]), drawn["kernel"]) for drawn in draws} == {
        (int, 3),
        (float, 0.5),
        (str, "auto"),
    }


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_logarithmic_domains_are_drawn_by_magnitude(sampler: SamplerName) -> None:
    space = {"rate": Domain(low=1e-6, high=1.0, log=True)}
    study = search(sampler, space=space)
    draws = [ask(study, trial)["rate"] for trial in range(200)]
    assert sum(isinstance(value, float) and value < 1e-3 for value in draws) in range(80, 121)


@pytest.mark.parametrize("sampler", LEARNING)
def test_accuracy_is_maximised(sampler: SamplerName) -> None:
    draws = [drawn["momentum"] for drawn in run(search(sampler), range(1, 101))]
    assert statistics.median(draws[60:]) == pytest.approx(0.9, abs=0.03)


@pytest.mark.parametrize("sampler", LEARNING)
def test_in_one_dimension_the_maximum_is_found_where_random_draws_stay_random(sampler: SamplerName) -> None:
    def mean_accuracy(name: SamplerName) -> float:
        study = search(name, space={"x": Domain(low=0.0, high=1.0)}, seed=3)
        accuracies = []
        for trial in range(1, 81):
            accuracies.append(1.0 - abs(ask(study, trial)["x"] - 0.85))
            study.tell(trial, accuracies[-1])
        return float(statistics.mean(accuracies[40:]))

    assert mean_accuracy("random") < 0.75
    assert mean_accuracy(sampler) > 0.9


def test_cma_es_orders_choices_of_numbers_by_size_and_draws_text_at_random() -> None:
    space = {
        "batch_size": Domain(choices=(128, 32, 512, 64, 256)),
        "optimizer": Domain(choices=("sgd", "adamw")),
    }
    study = search("cma_es", space=space)
    draws = []
    for trial in range(1, 121):
        draws.append(ask(study, trial))
        study.tell(trial, 1.0 - abs(draws[-1]["batch_size"] - 512) / 512)
    late = draws[80:]
    assert sum(drawn["batch_size"] == 512 for drawn in late) > 15  # 8 of 40 without learning
    assert sum(drawn["optimizer"] == "sgd" for drawn in late) in range(10, 31)


def test_cma_es_starts_around_the_middle_of_the_choices_by_size() -> None:
    study = search("cma_es", space={"batch_size": Domain(choices=(128, 32, 512, 64, 256))})
    draws = [ask(study, trial)["batch_size"] for trial in range(300)]
    assert draws.count(128) > 1.5 * draws.count(512)
    assert draws.count(128) > 1.5 * draws.count(32)


def test_cma_es_starts_again_when_it_has_converged() -> None:
    study = search("cma_es", space={"x": Domain(low=0.0, high=1.0)})
    for trial in range(1, 1001):
        ask(study, trial)
        study.tell(trial, 0.5)  # no draw is better: the generations drift until the strategy gives up
    spread = {round(ask(study, trial)["x"], 1) for trial in range(1001, 1101)}
    assert len(spread) > 3


@pytest.mark.parametrize("sampler", LEARNING)
def test_trials_without_some_values_teach_about_the_others(sampler: SamplerName) -> None:
    study = search(sampler)
    draws = []
    for trial in range(1, 101):
        drawn = next(study.draws(trial))
        del drawn["kernel"]
        study.start(trial, drawn)
        study.tell(trial, accuracy_of(drawn))
        draws.append(float(drawn["momentum"]))
    assert statistics.median(draws[60:]) == pytest.approx(0.9, abs=0.05)
    assert {ask(study, trial)["kernel"] for trial in range(101, 141)} == {3, 0.5, "auto"}


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_further_draws_for_a_trial_differ_and_change_nothing(sampler: SamplerName) -> None:
    study, twin = search(sampler), search(sampler)
    run(study, range(1, 26))
    run(twin, range(1, 26))
    draws = list(itertools.islice(study.draws(26), 4))
    assert len({drawn["learning_rate"] for drawn in draws}) == 4
    assert list(itertools.islice(study.draws(26), 4)) == draws
    assert ask(study, 26) == ask(twin, 26) == draws[0]
    assert ask(study, 27) == ask(twin, 27)


def test_first_trials_get_their_points_and_draw_the_rest() -> None:
    points: tuple[HyperParameters, ...] = ({"momentum": 0.6, "kernel": "auto"}, {}, {"learning_rate": 0.5})
    study, plain = search(first_points=points), search()
    drawn = [ask(study, trial) for trial in (1, 2, 3, 4)]
    without = [ask(plain, trial) for trial in (1, 2, 3, 4)]
    assert drawn == [{**a, **b} for a, b in zip(without, (*points, {}), strict=True)]


def test_only_the_first_draw_for_a_trial_is_its_point() -> None:
    study, plain = search(first_points=({"momentum": 0.6},)), search()
    again, without = study.draws(1), plain.draws(1)
    next(again), next(without)
    assert next(again) == next(without)


def test_restored_trials_use_up_their_first_points() -> None:
    study = search(first_points=({"momentum": 0.6}, {"momentum": 0.7}))
    study.start(1, {"momentum": 0.6})
    assert ask(study, 2)["momentum"] == 0.7
    assert ask(study, 3)["momentum"] not in (0.6, 0.7)


@pytest.mark.parametrize(("sampler", "package"), [("cma_es", "cmaes"), ("gp", "torch"), ("gp", "scipy")])
def test_a_sampler_without_its_package_is_refused_at_once(
    sampler: SamplerName, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigError) as caught:
        search(sampler)
    assert str(caught.value) == (
        f"search.hyper_parameters: got {sampler!r}, which needs the package {package}: "
        f"pip install {package}, or choose another sampler"
    )


def test_random_draws_ignore_results() -> None:
    told, untold = search("random"), search("random")
    assert run(told, range(1, 21)) == [ask(untold, trial) for trial in range(1, 21)]


@pytest.mark.parametrize("sampler", [*SAMPLERS, "gp"])
def test_an_empty_space_draws_nothing(sampler: SamplerName) -> None:
    assert run_constant(search(sampler, space={})) == [{}] * 25


def run_constant(study: HyperParameterSearch) -> list[dict[str, Any]]:
    draws = []
    for trial in range(25):
        draws.append(ask(study, trial))
        study.tell(trial, 0.5)
    return draws


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_seeds_decide_the_draws(sampler: SamplerName) -> None:
    assert run(search(sampler), range(25)) == run(search(sampler), range(25))
    assert run(search(sampler, seed=1), range(25)) != run(search(sampler, seed=2), range(25))


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_no_draw_is_repeated(sampler: SamplerName) -> None:
    study = search(sampler)
    assert len({ask(study, trial)["momentum"] for trial in range(30)}) == 30


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_resumed_study_goes_on_as_the_old_one_would_have(sampler: SamplerName) -> None:
    whole = search(sampler)
    draws = run(whole, range(1, 51))
    draws += [ask(whole, 51), ask(whole, 52)]
    whole.tell(52, None)

    resumed = search(sampler)
    for trial, drawn in enumerate(draws, start=1):
        resumed.start(trial, drawn)
    for trial in range(1, 51):
        resumed.tell(trial, accuracy_of(draws[trial - 1]))
    resumed.tell(52, None)

    assert [ask(resumed, trial) for trial in (53, 54)] == [ask(whole, trial) for trial in (53, 54)]
    for study in (whole, resumed):  # trial 51 was running when the master was lost
        study.tell(51, 1.0)
    assert run(resumed, range(55, 80)) == run(whole, range(55, 80))


def test_failed_trials_teach_nothing() -> None:
    with_failures, without = search("tpe"), search("tpe")
    for trial in range(1, 31):
        ask(with_failures, trial)
        with_failures.tell(trial, None)
        ask(without, trial)
    assert ask(with_failures, 31) == ask(without, 31)


def test_results_change_later_draws_of_tpe() -> None:
    told, untold = search("tpe"), search("tpe")
    run(told, range(1, 31))
    for trial in range(1, 31):
        ask(untold, trial)
    assert ask(told, 31) != ask(untold, 31)


def test_a_long_run_keeps_the_latest_results_and_all_running_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optuna_sampler, "NUM_LATEST_RESULTS", 20)
    study = search("tpe")
    ask(study, 0)
    run(study, range(1, 101))
    study.tell(0, 0.5)
    draws = [drawn["momentum"] for drawn in run(study, range(101, 141))]
    assert statistics.median(draws) == pytest.approx(0.9, abs=0.03)


def test_old_results_are_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optuna_sampler, "NUM_LATEST_RESULTS", 20)
    space = {"x": Domain(low=0.0, high=1.0)}
    after_change: dict[bool, list[float]] = {}
    for has_past in (True, False):
        study = search("tpe", space=space)
        for trial in range(100):
            study.start(trial, {"x": 0.5 if has_past and trial < 60 else trial / 100})
            study.tell(trial, 1.0 if has_past and trial < 60 else 0.5)
        after_change[has_past] = [float(ask(study, trial)["x"]) for trial in range(100, 120)]
    assert after_change[True] == after_change[False]


@pytest.mark.parametrize(
    ("name", "value"),
    [("learning_rate", 5.0), ("batch_size", 65), ("momentum", "high"), ("unknown", 1)],
)
def test_trials_of_another_space_are_not_restored(name: str, value: Any) -> None:
    study = search()
    with pytest.raises(ConfigError) as caught:
        study.start(7, {**ask(study, 1), name: value})
    assert str(caught.value) == (
        f"search.space: trial 7 has {name} {value!r}: it was drawn from another space than this one"
    )


def test_a_running_trial_cannot_start_again() -> None:
    study = search()
    drawn = ask(study, 4)
    with pytest.raises(ValueError, match="trial 4: is running already"):
        ask(study, 4)
    with pytest.raises(ValueError, match="trial 4: is running already"):
        study.start(4, drawn)


def test_only_running_trials_can_be_told_and_only_once() -> None:
    study = search()
    with pytest.raises(ValueError, match="trial 4: not running"):
        study.tell(4, 0.5)
    ask(study, 4)
    study.tell(4, 0.5)
    with pytest.raises(ValueError, match="trial 4: not running"):
        study.tell(4, 0.5)


@pytest.mark.parametrize("accuracy", [float("nan"), -0.01, 1.01])
def test_what_is_no_accuracy_is_refused_and_the_trial_goes_on(accuracy: float) -> None:
    study = search()
    ask(study, 4)
    with pytest.raises(ValueError, match=rf"accuracy {accuracy} of trial 4: expected 0\.\.1"):
        study.tell(4, accuracy)
    study.tell(4, 0.5)


def test_draws_are_copies() -> None:
    study, twin = search("tpe"), search("tpe")
    for trial in range(1, 21):
        drawn = ask(study, trial)
        accuracy = accuracy_of(drawn)
        drawn.clear()
        study.tell(trial, accuracy)
    run(twin, range(1, 21))
    assert ask(study, 21) == ask(twin, 21)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_optuna_is_quiet_and_logging_stays_as_it_was(
    sampler: SamplerName, capfd: pytest.CaptureFixture[str]
) -> None:
    root_before = (logging.getLogger().level, list(logging.getLogger().handlers))
    study = search(sampler)
    run(study, range(45))
    ask(study, 45)
    study.tell(45, None)
    assert capfd.readouterr() == ("", "")
    assert (logging.getLogger().level, list(logging.getLogger().handlers)) == root_before
