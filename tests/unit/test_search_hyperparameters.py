from __future__ import annotations

import logging
import statistics
from typing import Any

import optuna
import pytest

from aibench.api.space import Domain
from aibench.errors import ConfigError
from aibench.search import hyperparameters
from aibench.search.hyperparameters import HyperParameterSearch, Sampler

SPACE = {
    "learning_rate": Domain(low=0.001, high=1.0, log=True),
    "momentum": Domain(low=0.5, high=0.99),
    "batch_size": Domain(choices=(64, 128, 256)),
    "kernel": Domain(choices=(3, 0.5, "auto")),
    "constant": Domain(low=0.1, high=0.1),
}
SAMPLERS: list[Sampler] = ["tpe", "random"]


def search(
    sampler: Sampler = "tpe", *, seed: int = 1, space: dict[str, Domain] = SPACE
) -> HyperParameterSearch:
    return HyperParameterSearch(space, sampler=sampler, seed=seed)


def accuracy_of(drawn: dict[str, Any]) -> float:
    return float(1.0 - abs(drawn["momentum"] - 0.9))


def run(study: HyperParameterSearch, trials: range) -> list[dict[str, Any]]:
    draws = []
    for trial in trials:
        draws.append(study.ask(trial))
        study.tell(trial, accuracy_of(draws[-1]))
    return draws


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_draws_lie_in_their_domains_and_keep_their_types(sampler: Sampler) -> None:
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
def test_logarithmic_domains_are_drawn_by_magnitude(sampler: Sampler) -> None:
    space = {"rate": Domain(low=1e-6, high=1.0, log=True)}
    study = search(sampler, space=space)
    draws = [study.ask(trial)["rate"] for trial in range(200)]
    assert sum(isinstance(value, float) and value < 1e-3 for value in draws) in range(80, 121)


def test_tpe_maximises_accuracy() -> None:
    draws = [drawn["momentum"] for drawn in run(search("tpe"), range(1, 81))]
    assert statistics.median(draws[40:]) == pytest.approx(0.9, abs=0.03)


def test_random_draws_ignore_results() -> None:
    told, untold = search("random"), search("random")
    assert run(told, range(1, 21)) == [untold.ask(trial) for trial in range(1, 21)]


def test_an_empty_space_draws_nothing() -> None:
    assert run_constant(search(space={})) == [{}] * 15


def run_constant(study: HyperParameterSearch) -> list[dict[str, Any]]:
    draws = []
    for trial in range(15):
        draws.append(study.ask(trial))
        study.tell(trial, 0.5)
    return draws


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_seeds_decide_the_draws(sampler: Sampler) -> None:
    assert run(search(sampler), range(25)) == run(search(sampler), range(25))
    assert run(search(sampler, seed=1), range(25)) != run(search(sampler, seed=2), range(25))


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_no_draw_is_repeated(sampler: Sampler) -> None:
    study = search(sampler)
    assert len({study.ask(trial)["momentum"] for trial in range(30)}) == 30


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_resumed_study_goes_on_as_the_old_one_would_have(sampler: Sampler) -> None:
    whole = search(sampler)
    draws = run(whole, range(1, 21))
    draws += [whole.ask(21), whole.ask(22)]
    whole.tell(22, None)

    resumed = search(sampler)
    for trial, drawn in enumerate(draws, start=1):
        resumed.restore(trial, drawn)
    for trial in range(1, 21):
        resumed.tell(trial, accuracy_of(draws[trial - 1]))
    resumed.tell(22, None)

    assert [resumed.ask(trial) for trial in (23, 24)] == [whole.ask(trial) for trial in (23, 24)]
    for study in (whole, resumed):  # trial 21 was running when the master was lost
        study.tell(21, 1.0)
    assert resumed.ask(25) == whole.ask(25)


def test_failed_trials_teach_nothing() -> None:
    with_failures, without = search("tpe"), search("tpe")
    for trial in range(1, 31):
        with_failures.ask(trial)
        with_failures.tell(trial, None)
        without.ask(trial)
    assert with_failures.ask(31) == without.ask(31)


def test_results_change_later_draws_of_tpe() -> None:
    told, untold = search("tpe"), search("tpe")
    run(told, range(1, 31))
    for trial in range(1, 31):
        untold.ask(trial)
    assert told.ask(31) != untold.ask(31)


def test_a_long_run_keeps_the_latest_results_and_all_running_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hyperparameters, "NUM_LATEST_RESULTS", 20)
    study = search("tpe")
    study.ask(0)
    run(study, range(1, 101))
    study.tell(0, 0.5)
    draws = [drawn["momentum"] for drawn in run(study, range(101, 141))]
    assert statistics.median(draws) == pytest.approx(0.9, abs=0.03)


def test_old_results_are_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hyperparameters, "NUM_LATEST_RESULTS", 20)
    space = {"x": Domain(low=0.0, high=1.0)}
    after_change: dict[bool, list[float]] = {}
    for has_past in (True, False):
        study = search("tpe", space=space)
        for trial in range(100):
            study.restore(trial, {"x": 0.5 if has_past and trial < 60 else trial / 100})
            study.tell(trial, 1.0 if has_past and trial < 60 else 0.5)
        after_change[has_past] = [float(study.ask(trial)["x"]) for trial in range(100, 120)]
    assert after_change[True] == after_change[False]


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"learning_rate": 5.0}, "The value 5.0 of parameter 'learning_rate' isn't contained"),
        ({"batch_size": 65}, "'65' not in (64, 128, 256)"),
        ({"momentum": "high"}, "'high' is not a valid type"),
        ({"unknown": 1}, "Inconsistent parameters"),
    ],
)
def test_trials_of_another_space_are_not_restored(values: dict[str, Any], problem: str) -> None:
    study = search()
    with pytest.raises(ConfigError) as caught:
        study.restore(7, {**study.ask(1), **values})
    assert str(caught.value).startswith("search.space: trial 7 was drawn from another space: ")
    assert problem in str(caught.value)


def test_a_running_trial_cannot_start_again() -> None:
    study = search()
    drawn = study.ask(4)
    with pytest.raises(ValueError, match="trial 4: is running already"):
        study.ask(4)
    with pytest.raises(ValueError, match="trial 4: is running already"):
        study.restore(4, drawn)


def test_only_running_trials_can_be_told_and_only_once() -> None:
    study = search()
    with pytest.raises(ValueError, match="trial 4: not running"):
        study.tell(4, 0.5)
    study.ask(4)
    study.tell(4, 0.5)
    with pytest.raises(ValueError, match="trial 4: not running"):
        study.tell(4, 0.5)


@pytest.mark.parametrize("accuracy", [float("nan"), -0.01, 1.01])
def test_what_is_no_accuracy_is_refused_and_the_trial_goes_on(accuracy: float) -> None:
    study = search()
    study.ask(4)
    with pytest.raises(ValueError, match=rf"accuracy {accuracy} of trial 4: expected 0\.\.1"):
        study.tell(4, accuracy)
    study.tell(4, 0.5)


def test_draws_are_copies() -> None:
    study, twin = search("tpe"), search("tpe")
    for trial in range(1, 21):
        drawn = study.ask(trial)
        accuracy = accuracy_of(drawn)
        drawn.clear()
        study.tell(trial, accuracy)
    run(twin, range(1, 21))
    assert study.ask(21) == twin.ask(21)


def test_optuna_is_quiet_and_logging_stays_as_it_was(capfd: pytest.CaptureFixture[str]) -> None:
    root_before = (logging.getLogger().level, list(logging.getLogger().handlers))
    study = search("tpe")
    run(study, range(15))
    study.ask(15)
    study.tell(15, None)
    assert capfd.readouterr() == ("", "")
    assert (logging.getLogger().level, list(logging.getLogger().handlers)) == root_before
    assert optuna.logging.get_verbosity() == optuna.logging.WARNING
