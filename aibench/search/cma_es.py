"""Hyper-parameters by CMA-ES, the evolution strategy with covariance matrix adaptation."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

import cmaes
import numpy as np
from numpy.typing import NDArray

from aibench.api.space import Domain, Scalar
from aibench.api.workload import HyperParameters
from aibench.search.domains import at_fraction, fraction_of, uniform

# Of the range of every coordinate, as Hansen's tutorial advises (arXiv:1604.00772, section B.3).
INITIAL_DEVIATION = 0.3


class CmaEsSampler:
    """A `Sampler` by the package cmaes, which Optuna's own CMA-ES uses as well.

    Optuna keeps the state of the strategy with the trials it drew, which a replay does not have. Here the
    state follows from the results: as many as a generation has, in the order of their end, make the next one,
    also if some were drawn from an earlier one. Of thousands of trials at the same time most would be late;
    then TPE suits better.

    Intervals and choices among numbers are coordinates from 0 to 1; choices are ordered by size and take
    equal parts of theirs, because with 32, 64 and 128 the better neighbour says where to go on. Choices with
    text have no order and are drawn uniformly.
    """

    def __init__(self, space: Mapping[str, Domain]) -> None:
        self._space = dict(sorted(space.items()))
        self._coordinates = [name for name, domain in self._space.items() if _is_ordered(domain)]
        self._strategy = self._new_strategy()
        self._generation: list[tuple[NDArray[np.float64], float]] = []

    def draw(self, seed: int, pending: Sequence[HyperParameters]) -> HyperParameters:
        """See `Sampler.draw`; trials in progress make no difference."""
        rng = random.Random(seed)  # noqa: S311
        drawn = {name: uniform(domain, rng) for name, domain in self._space.items()}
        if self._strategy is not None:
            self._strategy.reseed_rng(rng.getrandbits(32))
            point = self._strategy.ask()
            for name, fraction in zip(self._coordinates, point, strict=True):
                drawn[name] = _value(self._space[name], float(fraction))
        return drawn

    def tell(self, hyper_parameters: HyperParameters, accuracy: float) -> None:
        """See `Sampler.tell`."""
        if self._strategy is None:
            return
        point = [_fraction(self._space[name], hyper_parameters[name]) for name in self._coordinates]
        self._generation.append((np.array(point), -accuracy))  # the strategy minimises
        if len(self._generation) == self._strategy.population_size:
            self._strategy.tell(self._generation)
            self._generation = []
            if self._strategy.should_stop():
                self._strategy = self._new_strategy()

    def _new_strategy(self) -> cmaes.CMA | None:
        num_coordinates = len(self._coordinates)
        if not num_coordinates:
            return None
        return cmaes.CMA(
            mean=np.full(num_coordinates, 0.5),
            sigma=INITIAL_DEVIATION,
            bounds=np.array([[0.0, 1.0]] * num_coordinates),
        )


def _is_ordered(domain: Domain) -> bool:
    if domain.choices is None:
        return domain.low != domain.high
    return len(domain.choices) > 1 and not any(isinstance(choice, str) for choice in domain.choices)


def _ordered_choices(choices: Sequence[Scalar]) -> list[Scalar]:
    return sorted(choices, key=float)


def _value(domain: Domain, fraction: float) -> Scalar:
    if domain.choices is None:
        return at_fraction(domain, fraction)
    place = min(int(fraction * len(domain.choices)), len(domain.choices) - 1)
    return _ordered_choices(domain.choices)[place]


def _fraction(domain: Domain, value: Scalar) -> float:
    if domain.choices is None:
        return fraction_of(domain, float(value))
    return (_ordered_choices(domain.choices).index(value) + 0.5) / len(domain.choices)
