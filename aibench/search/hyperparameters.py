"""Hyper-parameters of trials: drawn, taken over from the journal, and told."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Mapping, Sequence

from aibench.api.space import Domain
from aibench.api.workload import HyperParameters
from aibench.errors import ConfigError
from aibench.search.config import SamplerName
from aibench.search.domains import member, uniform
from aibench.search.samplers import make_sampler


class HyperParameterSearch:
    """Draws hyper-parameters that maximise accuracy.

    The draws for a trial depend on the seed, on how many trials started before, on the results told before,
    in their order, and with ``gp`` on which of these trials still run. So a resumed search goes on where the
    old one stood.

    A trial need not have all hyper-parameters: what changes nothing in its network may be absent. As it
    would have got the same result with any value, samplers are told a random one; so they learn nothing about
    it, and from every result about the others.

    Args:
        space: Domain of each hyper-parameter.
        sampler: ``tpe`` for Optuna's multivariate tree-structured Parzen estimator, ``nsga_ii`` for its
            genetic algorithm, ``gp`` for its Gaussian process, ``cma_es`` for evolution with covariance
            matrix adaptation, or ``random``.
        seed: Seed of all draws.
        first_points: Values of trials 1, 2, …, in place of those drawn.

    Raises:
        ConfigError: The sampler needs a package that is not installed.
    """

    def __init__(
        self,
        space: Mapping[str, Domain],
        *,
        sampler: SamplerName,
        seed: int,
        first_points: Sequence[HyperParameters] = (),
    ) -> None:
        self._space = dict(sorted(space.items()))
        self._sampler = make_sampler(sampler, space)
        self._seed = seed
        self._first_points = first_points
        self._num_started = 0
        self._running: dict[int, HyperParameters] = {}

    def draws(self, trial: int) -> Iterator[HyperParameters]:
        """Draws for the next trial, one after another, each a whole set; the first has its first point."""
        point = self._first_points[trial - 1] if 0 < trial <= len(self._first_points) else {}
        yield {**self._draw(""), **point}
        for number in itertools.count(1):
            yield self._draw(f":{number}")

    def start(self, trial: int, hyper_parameters: HyperParameters) -> None:
        """Take note of what a trial got: from `draws` or from the journal, whole or in part.

        Raises:
            ConfigError: The values are not of this space.
            ValueError: The trial is running already.
        """
        if trial in self._running:
            raise ValueError(f"trial {trial}: is running already")
        self._check(trial, hyper_parameters)
        self._running[trial] = self._completed(trial, hyper_parameters)
        self._num_started += 1

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
            self._sampler.tell(hyper_parameters, accuracy)

    def _draw(self, suffix: str) -> HyperParameters:
        rng = random.Random(f"{self._seed}:hyper-parameters:{self._num_started}{suffix}")  # noqa: S311
        return self._sampler.draw(rng.getrandbits(32), tuple(self._running.values()))

    def _check(self, trial: int, hyper_parameters: HyperParameters) -> None:
        for name, value in hyper_parameters.items():
            if name not in self._space or member(self._space[name], value) is None:
                raise ConfigError(
                    "search.space",
                    f"trial {trial} has {name} {value!r}: it was drawn from another space than this one",
                )

    def _completed(self, trial: int, hyper_parameters: HyperParameters) -> HyperParameters:
        rng = random.Random(f"{self._seed}:absent:{trial}")  # noqa: S311
        absent = {name: uniform(domain, rng) for name, domain in self._space.items()}
        return {**absent, **hyper_parameters}
