from __future__ import annotations

import logging
import random
from typing import Any

import pytest
from optuna.samplers import GPSampler

from aibench.api.space import Domain
from aibench.search import gp_sampler
from aibench.search.hyperparameters import HyperParameterSearch

SPACE = {
    "x": Domain(low=0.0, high=1.0),
    "batch_size": Domain(choices=(64, 128)),
    "constant": Domain(low=0.1, high=0.1),
}


def make(**changes: Any) -> HyperParameterSearch:
    return HyperParameterSearch(SPACE, **{"sampler": "gp", "seed": 1, **changes})


def accuracy_of(drawn: dict[str, Any]) -> float:
    return float(1.0 - abs(drawn["x"] - 0.8))


def told(*, num_results: int, num_running: int = 0) -> HyperParameterSearch:
    """A study of a run with random draws, as a resumed master rebuilds it."""
    study = make()
    draws = told_results(num_results + num_running)
    for trial, drawn in enumerate(draws, start=1):
        study.start(trial, drawn)
    for trial, drawn in enumerate(draws[:num_results], start=1):
        study.tell(trial, accuracy_of(drawn))
    return study


def ask(study: HyperParameterSearch, trial: int) -> dict[str, Any]:
    drawn = next(study.draws(trial))
    study.start(trial, drawn)
    return drawn


def test_the_gaussian_process_maximises_accuracy_within_few_trials() -> None:
    study = told(num_results=12)
    draws = []
    for trial in range(13, 19):
        draws.append(ask(study, trial))
        study.tell(trial, accuracy_of(draws[-1]))
    assert draws[-1]["x"] == pytest.approx(0.8, abs=0.02)
    assert all(drawn["constant"] == 0.1 and type(drawn["batch_size"]) is int for drawn in draws)


def test_workers_that_ask_between_two_results_get_different_draws() -> None:
    study = told(num_results=12)
    drawn = [ask(study, trial) for trial in range(13, 19)]
    assert len({(round(values["x"], 2), values["batch_size"]) for values in drawn}) > 4


def test_a_resumed_study_goes_on_as_the_old_one_would_have() -> None:
    whole = told(num_results=12)
    drawn = [ask(whole, 13), ask(whole, 14)]
    whole.tell(14, accuracy_of(drawn[1]))

    resumed = told(num_results=12)
    for trial in (13, 14):
        resumed.start(trial, drawn[trial - 13])
    resumed.tell(14, accuracy_of(drawn[1]))
    assert [ask(resumed, 15), ask(resumed, 16)] == [ask(whole, 15), ask(whole, 16)]


def test_few_results_are_drawn_around_at_random() -> None:
    random_draws = make(sampler="random")
    study = told(num_results=9)
    for trial in range(1, 10):
        ask(random_draws, trial)
    assert ask(study, 10)["x"] == ask(random_draws, 10)["x"]


def test_beyond_the_limit_tpe_draws_and_one_warning_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(gp_sampler, "MAX_RESULTS", 14)
    caplog.set_level(logging.WARNING)
    ask(told(num_results=14), 15)
    assert not caplog.records
    tpe, study = make(sampler="tpe"), told(num_results=15)
    for trial, result in enumerate(told_results(15), start=1):
        tpe.start(trial, result)
        tpe.tell(trial, accuracy_of(result))
    assert [ask(study, 16), ask(study, 17)] == [ask(tpe, 16), ask(tpe, 17)]
    assert caplog.messages == [
        "search.hyper_parameters: 'gp' takes too long for more than 14 results, so 'tpe' draws from now on"
    ]


def told_results(num_results: int) -> list[dict[str, Any]]:
    rng = random.Random(1)
    return [
        {"x": rng.random(), "batch_size": rng.choice((64, 128)), "constant": 0.1} for _ in range(num_results)
    ]


def test_no_draw_sees_more_trials_than_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gp_sampler, "MAX_RESULTS", 14)
    seen: list[int] = []
    sample = GPSampler.sample_relative

    def count_trials(sampler: GPSampler, study: Any, trial: Any, space: Any) -> Any:
        seen.append(len(study.trials) - 1)
        return sample(sampler, study, trial, space)

    study = told(num_results=12, num_running=40)
    monkeypatch.setattr(GPSampler, "sample_relative", count_trials)
    ask(study, 53)
    assert seen == [14]


def test_the_effort_of_a_draw_is_set_where_this_release_of_optuna_reads_it() -> None:
    assert {"_n_preliminary_samples", "_n_local_search"} <= vars(GPSampler(seed=1)).keys()
