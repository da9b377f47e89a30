"""The ``search`` section of a configuration, and the hyper-parameter space it leads to."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec

from aibench.api.space import Domain
from aibench.errors import ConfigError


class SearchConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How candidates are found.

    Attributes:
        architecture: ``random`` morphs any network; ``evolution`` the best of a few recent ones;
            ``network_morphism`` picks the most promising of many morphed networks by a Gaussian process;
            ``none`` trains the initial network only.
        hyper_parameters: Sampler of the hyper-parameters.
        space: Domains that replace the workload's own, by hyper-parameter.
        max_morphs: Most morphs between a parent and its child.
        max_ops_ratio: Most training operations of a network, as a multiple of the initial network's; both
            taken before hyper-parameters that change the network are applied.
    """

    architecture: Literal["random", "evolution", "network_morphism", "none"] = "random"
    hyper_parameters: Literal["tpe", "random"] = "tpe"
    space: dict[str, Domain] = {}
    max_morphs: Annotated[int, msgspec.Meta(ge=1)] = 3
    max_ops_ratio: Annotated[float, msgspec.Meta(gt=1.0)] = 4.0

    @property
    def is_enabled(self) -> bool:
        """Whether architectures are searched at all."""
        return self.architecture != "none"


def resolve_space(defaults: Mapping[str, Domain], overrides: Mapping[str, Domain]) -> dict[str, Domain]:
    """The workload's domains with the configured ones in place of theirs.

    Raises:
        ConfigError: A name that the workload does not read, or values of a kind that it does not expect.
    """
    for name, domain in overrides.items():
        if name not in defaults:
            raise ConfigError(f"search.space.{name}", _unknown_name(name, defaults))
        expected, found = _kinds(defaults[name]), _kinds(domain)
        if not all(kind in expected or (kind is int and float in expected) for kind in found):
            problem = f"holds {_in_words(found)} values, expected {_in_words(expected)} as the workload has"
            raise ConfigError(f"search.space.{name}", problem)
    return {**defaults, **overrides}


def _unknown_name(name: str, known: Mapping[str, Domain]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return f"the workload has no such hyper-parameter, expected one of {', '.join(sorted(known))}{hint}"


def _kinds(domain: Domain) -> set[type]:
    return {float} if domain.choices is None else {type(value) for value in domain.choices}


def _in_words(kinds: set[type]) -> str:
    return " or ".join(sorted(kind.__name__ for kind in kinds))
