"""The samplers of hyper-parameters by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import optuna

from aibench.api.space import Domain
from aibench.api.workload import HyperParameters
from aibench.search.config import SamplerName, check_packages
from aibench.search.optuna_sampler import (
    OptunaSampler,
    distributions_of,
    make_nsga_ii,
    make_random,
    make_tpe,
)

_MAKERS = {"tpe": make_tpe, "nsga_ii": make_nsga_ii, "random": make_random}


class Sampler(Protocol):
    """Draws hyper-parameters of high accuracy.

    A draw depends on the space, the results told before, and the arguments, on nothing else of the past: a
    resumed run replays results, not draws.
    """

    def draw(self, seed: int, pending: Sequence[HyperParameters]) -> HyperParameters:
        """A value for every name of the space.

        Args:
            seed: Of everything random in the draw.
            pending: What trials in progress have, in the order of their start; whole sets.
        """
        ...

    def tell(self, hyper_parameters: HyperParameters, accuracy: float) -> None:
        """Learn the validation accuracy, in 0..1, that a whole set of hyper-parameters reached."""
        ...


def make_sampler(name: SamplerName, space: Mapping[str, Domain]) -> Sampler:
    """A sampler without results.

    Args:
        name: ``tpe``, ``nsga_ii``, ``cma_es`` or ``gp`` learn, ``random`` does not.

    Raises:
        ConfigError: It needs a package that is not installed.
    """
    # What a user must know of the samplers is logged by them, in the words of the configuration.
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    check_packages(name)
    if name == "cma_es":
        from aibench.search.cma_es import CmaEsSampler

        return CmaEsSampler(space)
    if name == "gp":
        from aibench.search.gp_sampler import GaussianProcessSampler

        return GaussianProcessSampler(distributions_of(space))
    return OptunaSampler(distributions_of(space), _MAKERS[name])
