"""Hyper-parameters by Optuna's Gaussian process, while it is affordable."""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence

import optuna
from optuna.samplers import GPSampler
from optuna.trial import FrozenTrial

from aibench.api.workload import HyperParameters
from aibench.search.optuna_sampler import (
    Distributions,
    FixedSpace,
    OptunaSampler,
    finished_trial,
    make_random,
    make_tpe,
)

# A draw from so many takes 0.13 s of one core, in which no worker is served; from 1,000 it takes seconds.
MAX_RESULTS = 100
MIN_RESULTS = 10

# Half of the time of Optuna's 2,048 points and 10 climbs.
NUM_STARTING_POINTS = 512
NUM_LOCAL_SEARCHES = 4

_logger = logging.getLogger(__name__)


class GaussianProcessSampler:
    """A `Sampler` by a Gaussian process over the first ``MAX_RESULTS`` results, behind them by TPE.

    TPE is told the same results and takes over with one warning. Until there are ``MIN_RESULTS``, draws are
    random.

    Between two results the process would draw nearly the same for every worker that asks. So the latest
    trials in progress count as results of average accuracy, the "constant liar" of Ginsbourger et al.,
    "Kriging Is Well-Suited to Parallelize Optimization" (2010).
    """

    def __init__(self, distributions: Distributions) -> None:
        self._distributions = distributions
        self._tpe = OptunaSampler(distributions, make_tpe)
        self._results: list[FrozenTrial] = []
        self._total_accuracy = 0.0
        self._has_warned = False
        self._import_torch()

    def draw(self, seed: int, pending: Sequence[HyperParameters]) -> HyperParameters:
        """See `Sampler.draw`."""
        if len(self._results) > MAX_RESULTS:
            self._warn_once()
            return self._tpe.draw(seed, pending)
        return self._draw_from([*self._results, *self._lies(pending)], seed)

    def tell(self, hyper_parameters: HyperParameters, accuracy: float) -> None:
        """See `Sampler.tell`."""
        self._tpe.tell(hyper_parameters, accuracy)
        if len(self._results) <= MAX_RESULTS:
            self._results.append(finished_trial(self._distributions, hyper_parameters, accuracy))
            self._total_accuracy += accuracy

    def _draw_from(self, trials: Sequence[FrozenTrial], seed: int) -> HyperParameters:
        sampler = _FixedSpaceGPSampler(self._distributions, seed=seed)
        study = optuna.create_study(direction="maximize", sampler=sampler)
        study.add_trials(trials)
        return study.ask(fixed_distributions=dict(self._distributions)).params

    def _lies(self, pending: Sequence[HyperParameters]) -> list[FrozenTrial]:
        num_results = len(self._results)
        num_lies = min(len(pending), MAX_RESULTS - num_results)
        if num_results < MIN_RESULTS or not num_lies:
            return []
        accuracy = self._total_accuracy / num_results
        return [finished_trial(self._distributions, running, accuracy) for running in pending[-num_lies:]]

    def _warn_once(self) -> None:
        if not self._has_warned:
            self._has_warned = True
            _logger.warning(
                "search.hyper_parameters: 'gp' takes too long for more than %d results, so 'tpe' draws from "
                "now on",
                MAX_RESULTS,
            )

    def _import_torch(self) -> None:
        """Draw once from made-up results: the imports take seconds, for which later a worker would wait."""
        rng = random.Random(0)  # noqa: S311
        made_up = OptunaSampler(self._distributions, make_random)
        trials = [
            finished_trial(self._distributions, made_up.draw(number, ()), rng.random())
            for number in range(MIN_RESULTS)
        ]
        self._draw_from(trials, seed=0)


class _FixedSpaceGPSampler(FixedSpace, GPSampler):
    def __init__(self, distributions: Distributions, *, seed: int) -> None:
        super().__init__(
            distributions, seed=seed, n_startup_trials=MIN_RESULTS, warn_independent_sampling=False
        )
        self._n_preliminary_samples = NUM_STARTING_POINTS
        self._n_local_search = NUM_LOCAL_SEARCHES
