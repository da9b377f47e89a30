"""Samplers of hyper-parameters by Optuna's, rebuilt from their results alone."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.samplers.nsgaii import PolynomialMutation
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from aibench.api.space import Domain
from aibench.api.workload import HyperParameters

# What an ask of TPE costs grows with the results in the study; it holds at most twice as many as this.
NUM_LATEST_RESULTS = 500

# Of generations of 50, Optuna's default, a short run would see one, and the first is random.
NSGA_POPULATION_SIZE = 20

Distributions = Mapping[str, BaseDistribution]
MakeSampler = Callable[[Distributions, int], BaseSampler]


class OptunaSampler:
    """A `Sampler` that learns from the latest 500 to 1,000 results.

    Optuna's own trials only carry the draws. Results enter the study as finished trials of their own:
    restored and asked ones are then the same, and old ones can be left behind.

    Args:
        make: Builds Optuna's sampler for one draw, from the distributions and a seed.
    """

    def __init__(self, distributions: Distributions, make: MakeSampler) -> None:
        self._distributions = distributions
        self._make = make
        self._study = optuna.create_study(direction="maximize")
        self._num_results = 0

    def draw(self, seed: int, pending: Sequence[HyperParameters]) -> HyperParameters:
        """See `Sampler.draw`; trials in progress make no difference."""
        self._study.sampler = self._make(self._distributions, seed)
        drawn = self._study.ask(fixed_distributions=dict(self._distributions))
        self._study.tell(drawn, state=TrialState.FAIL)
        return drawn.params

    def tell(self, hyper_parameters: HyperParameters, accuracy: float) -> None:
        """See `Sampler.tell`."""
        self._study.add_trial(finished_trial(self._distributions, hyper_parameters, accuracy))
        self._num_results += 1
        if self._num_results == 2 * NUM_LATEST_RESULTS:
            self._leave_old_results_behind()

    def _leave_old_results_behind(self) -> None:
        results = _results(self._study)
        self._study = optuna.create_study(direction="maximize")
        self._study.add_trials(results[-NUM_LATEST_RESULTS:])
        self._num_results = NUM_LATEST_RESULTS


def distributions_of(space: Mapping[str, Domain]) -> dict[str, BaseDistribution]:
    """The space in Optuna's words, in the order of the names."""
    return {name: _distribution(domain) for name, domain in sorted(space.items())}


def finished_trial(
    distributions: Distributions, hyper_parameters: HyperParameters, accuracy: float
) -> FrozenTrial:
    """A result in Optuna's words.

    Raises:
        ValueError: The hyper-parameters are not of this space.
    """
    return optuna.trial.create_trial(
        params=dict(hyper_parameters), distributions=dict(distributions), value=accuracy
    )


def make_random(_: Distributions, seed: int) -> BaseSampler:
    """Draws that ignore results."""
    return RandomSampler(seed=seed)


def make_tpe(distributions: Distributions, seed: int) -> BaseSampler:
    """The multivariate tree-structured Parzen estimator."""
    return _FixedSpaceTPESampler(distributions, seed=seed, constant_liar=False)


def make_nsga_ii(distributions: Distributions, seed: int) -> BaseSampler:
    """The genetic algorithm, with one objective.

    Optuna's default mutation draws a value anew. In a space of one dimension that is random search, so
    intervals mutate polynomially, as in Deb et al., "A Fast and Elitist Multiobjective Genetic Algorithm"
    (2002).
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", category=ExperimentalWarning)
        mutation = PolynomialMutation()
    return _ReplayableNSGAIISampler(
        distributions, seed=seed, population_size=NSGA_POPULATION_SIZE, mutation=mutation
    )


class FixedSpace:
    """Knows the space instead of inferring it from all results at every draw, which costs as much again."""

    def __init__(self, distributions: Distributions, **settings: Any) -> None:
        super().__init__(**settings)
        self._sampled_together = {n: d for n, d in distributions.items() if not d.single()}

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """All names with more than one value."""
        return self._sampled_together


class _FixedSpaceTPESampler(FixedSpace, TPESampler):
    pass


class _ReplayableNSGAIISampler(FixedSpace, NSGAIISampler):
    """Counts generations by results; Optuna notes them on trials it drew, which a replay does not have."""

    def get_trial_generation(self, study: Study, trial: FrozenTrial) -> int:
        return len(_results(study)) // NSGA_POPULATION_SIZE

    def get_population(self, study: Study, generation: int) -> list[FrozenTrial]:
        first = generation * NSGA_POPULATION_SIZE
        return _results(study)[first : first + NSGA_POPULATION_SIZE]

    def get_parent_population(self, study: Study, generation: int) -> list[FrozenTrial]:
        # Their order decides the draw, and Optuna's depends on whether they were asked for before.
        parents = super().get_parent_population(study, generation)
        return sorted(parents, key=lambda parent: parent.number)


def _results(study: Study) -> list[FrozenTrial]:
    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))


def _distribution(domain: Domain) -> BaseDistribution:
    if domain.choices is not None:
        return CategoricalDistribution(domain.choices)
    assert domain.low is not None
    assert domain.high is not None
    return FloatDistribution(domain.low, domain.high, log=domain.log)
