"""Hyper-parameters by Optuna: its samplers over a study in memory, rebuilt from the journal on resume."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Literal

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from aibench.api.space import Domain
from aibench.api.workload import HyperParameters
from aibench.errors import ConfigError

Sampler = Literal["tpe", "cma_es", "nsga_ii", "gp", "random"]

# What an ask of TPE costs grows with the results in the study; it holds at most twice as many as this.
NUM_LATEST_RESULTS = 1000


class HyperParameterSearch:
    """Draws hyper-parameters that maximise accuracy; learns from the latest thousand or two of results.

    Draw number n depends on the seed, n, and the results before it, so a resumed search goes on where the old
    one stood. Trials in progress do not influence the draws.

    Args:
        space: Domain of each hyper-parameter.
        sampler: ``tpe`` for Optuna's multivariate tree-structured Parzen estimator, or ``random``.
        seed: Seed of all draws.
    """

    def __init__(self, space: Mapping[str, Domain], *, sampler: Sampler, seed: int) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._distributions = {name: _distribution(domain) for name, domain in sorted(space.items())}
        self._sampler = sampler
        self._seed = seed
        self._num_asked = 0
        self._num_results = 0
        self._running: dict[int, HyperParameters] = {}
        self._study = optuna.create_study(direction="maximize")

    def ask(self, trial: int) -> HyperParameters:
        """Draw for a new trial.

        Raises:
            ValueError: The trial is running already.
        """
        self._check_new(trial)
        self._study.sampler = self._next_sampler()
        # Optuna's own trial only carries the draw. Results enter the study as finished trials of their own:
        # restored and asked ones are then the same, and old ones can be left behind.
        drawn = self._study.ask(fixed_distributions=self._distributions)
        self._study.tell(drawn, state=TrialState.FAIL)
        self._start(trial, drawn.params)
        return drawn.params

    def restore(self, trial: int, hyper_parameters: HyperParameters) -> None:
        """Take over a trial that an earlier master asked for; tell it as any other.

        Raises:
            ConfigError: The values are not of this space.
            ValueError: The trial is running already.
        """
        self._check_new(trial)
        try:
            self._finished(hyper_parameters, accuracy=0.0)
        except ValueError as error:
            raise ConfigError(
                "search.space", f"trial {trial} was drawn from another space: {error}"
            ) from error
        self._start(trial, dict(hyper_parameters))

    def tell(self, trial: int, accuracy: float | None) -> None:
        """A trial ended with this best validation accuracy, or without one, which teaches nothing.

        Raises:
            ValueError: The trial is not running, or the accuracy is not in 0..1.
        """
        if trial not in self._running:
            raise ValueError(f"trial {trial}: not running, so it cannot be told")
        if accuracy is not None and not 0.0 <= accuracy <= 1.0:
            raise ValueError(f"accuracy {accuracy} of trial {trial}: expected 0..1, or None without one")
        hyper_parameters = self._running.pop(trial)
        if accuracy is not None:
            self._study.add_trial(self._finished(hyper_parameters, accuracy=accuracy))
            self._num_results += 1
            if self._num_results == 2 * NUM_LATEST_RESULTS:
                self._leave_old_results_behind()

    def _check_new(self, trial: int) -> None:
        if trial in self._running:
            raise ValueError(f"trial {trial}: is running already")

    def _start(self, trial: int, hyper_parameters: HyperParameters) -> None:
        self._running[trial] = hyper_parameters
        self._num_asked += 1

    def _leave_old_results_behind(self) -> None:
        results = self._study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        self._study = optuna.create_study(direction="maximize")
        self._study.add_trials(results[-NUM_LATEST_RESULTS:])
        self._num_results = NUM_LATEST_RESULTS

    def _next_sampler(self) -> BaseSampler:
        rng = random.Random(f"{self._seed}:hyper-parameters:{self._num_asked}")  # noqa: S311
        seed = rng.getrandbits(32)
        if self._sampler == "random":
            return RandomSampler(seed=seed)
        return _FixedSpaceTPESampler(self._distributions, seed=seed)

    def _finished(self, hyper_parameters: HyperParameters, *, accuracy: float) -> FrozenTrial:
        return optuna.trial.create_trial(
            params=dict(hyper_parameters), distributions=self._distributions, value=accuracy
        )


class _FixedSpaceTPESampler(TPESampler):
    """Knows the space instead of inferring it from all results at every draw, which costs as much again."""

    def __init__(self, distributions: Mapping[str, BaseDistribution], *, seed: int) -> None:
        super().__init__(seed=seed, constant_liar=False)
        self._sampled_together = {n: d for n, d in distributions.items() if not d.single()}

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return self._sampled_together


def _distribution(domain: Domain) -> BaseDistribution:
    if domain.choices is not None:
        return CategoricalDistribution(domain.choices)
    assert domain.low is not None
    assert domain.high is not None
    return FloatDistribution(domain.low, domain.high, log=domain.log)
