"""The ``search`` section of a configuration, and the hyper-parameter space it leads to."""

from __future__ import annotations

import difflib
import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Literal

import msgspec

from aibench.api.space import Domain, Scalar
from aibench.api.workload import HyperParameters
from aibench.errors import ConfigError
from aibench.search.domains import member

SamplerName = Literal["tpe", "cma_es", "nsga_ii", "gp", "random"]

_PACKAGES: Mapping[SamplerName, tuple[str, ...]] = {"cma_es": ("cmaes",), "gp": ("torch", "scipy")}


class Guidance(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What first points and space were chosen by; a run writes it, nobody has to.

    Attributes:
        features: Those measured of this data set.
        missing: Recorded features that could not be measured here.
        selected: Features that chose the neighbours, in the order they were selected, with the rank
            correlation that they reach together with those before them.
        score_without_features: The rank correlation without any.
        neighbours: Recorded data sets most like this one, the nearest first; all if no feature was selected.
    """

    features: dict[str, float]
    missing: tuple[str, ...]
    selected: dict[str, float]
    score_without_features: float
    neighbours: tuple[str, ...]


class SearchConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How candidates are found.

    Attributes:
        architecture: ``random`` morphs any network; ``evolution`` the best of a few recent ones, and is the
            default: none was significantly better where ``aibench compare-search`` really trained;
            ``network_morphism`` picks the most promising of many morphed networks by a Gaussian process;
            ``none`` trains the initial network only.
        hyper_parameters: Sampler of the hyper-parameters; ``gp`` gives way to ``tpe`` after 100 results.
        space: Domains that replace the workload's own, by hyper-parameter; null takes one out that only
            changes the network.
        first_points: Hyper-parameters of the first trials, before the sampler draws.
        max_morphs: Most morphs between a parent and its child.
        max_ops_ratio: Most training operations of a network, as a multiple of the initial network's; both
            taken before hyper-parameters that change the network are applied.
        max_memory_gib: Most estimated training memory of one rank; None for no limit.
        inherit_weights: Whether children start from their parents' trained weights instead of from scratch.
        stop_hopeless: Whether trials that cannot become good are stopped before their last epoch.
        patience_epochs: Epochs without a better error after which a trial is stopped; None for never.
        predict_accuracy: Whether a trial that had fewer epochs than the full budget is told to the search by
            the error that its learning curve predicts there.
        worker_proposals: Whether workers search for networks on idle cores while they train.
        feature_guided: Whether features of the data set choose the first points and narrow the space.
        guidance: What they were chosen by; where it stands, nothing is chosen again.
    """

    architecture: Literal["random", "evolution", "network_morphism", "none"] = "evolution"
    hyper_parameters: SamplerName = "tpe"
    space: dict[str, Domain | None] = {}
    first_points: tuple[dict[str, Scalar], ...] = ()
    max_morphs: Annotated[int, msgspec.Meta(ge=1, le=100)] = 3
    max_ops_ratio: Annotated[float, msgspec.Meta(gt=1.0, le=1e9)] = 4.0
    max_memory_gib: Annotated[float, msgspec.Meta(gt=0.0)] | None = None
    inherit_weights: bool = False
    stop_hopeless: bool = False
    patience_epochs: Annotated[int, msgspec.Meta(ge=1)] | None = None
    predict_accuracy: bool = True
    worker_proposals: bool = True
    feature_guided: bool = False
    guidance: Guidance | None = None

    @property
    def is_enabled(self) -> bool:
        """Whether architectures are searched at all."""
        return self.architecture != "none"

    @property
    def departures(self) -> tuple[str, ...]:
        """What makes trials differ from whole trainings from scratch, one phrase each.

        An inherited network has seen more images than its trial trains, and a stopped one fewer: neither's
        error is what its epochs and operations bought.
        """
        phrases = {
            "weights are inherited (search.inherit_weights)": self.inherit_weights,
            "hopeless trials are stopped (search.stop_hopeless)": self.stop_hopeless,
            "stalled trials are stopped (search.patience_epochs)": self.patience_epochs is not None,
        }
        return tuple(phrase for phrase, departs in phrases.items() if departs)


def resolve_space(
    defaults: Mapping[str, Domain], overrides: Mapping[str, Domain | None]
) -> dict[str, Domain]:
    """The workload's domains with the configured ones in place of theirs.

    Raises:
        ConfigError: A name that the workload does not read, or values of a kind that it does not expect.
    """
    for name, domain in overrides.items():
        if name not in defaults:
            raise ConfigError(f"search.space.{name}", _unknown_name(name, defaults))
        if domain is None:
            continue
        expected, found = _kinds(defaults[name]), _kinds(domain)
        if not all(kind in expected or (kind is int and float in expected) for kind in found):
            problem = f"holds {_in_words(found)} values, expected {_in_words(expected)} as the workload has"
            raise ConfigError(f"search.space.{name}", problem)
    return {name: domain for name, domain in {**defaults, **overrides}.items() if domain is not None}


def resolve_first_points(
    points: Sequence[Mapping[str, Scalar]], space: Mapping[str, Domain]
) -> tuple[HyperParameters, ...]:
    """The points with their values as the domains have them, such as 1.0 for 1.

    Raises:
        ConfigError: A name that the space does not have, or a value outside its domain.
    """
    return tuple(dict(_resolved_point(point, number, space)) for number, point in enumerate(points))


def check_packages(sampler: SamplerName) -> None:
    """Refuse a sampler that would fail at its first draw; imports nothing.

    Raises:
        ConfigError: It needs a package that is not installed.
    """
    for package in _PACKAGES.get(sampler, ()):
        if importlib.util.find_spec(package) is None:
            raise ConfigError(
                "search.hyper_parameters",
                f"got {sampler!r}, which needs the package {package}: pip install {package}, or choose "
                "another sampler",
            )


def _resolved_point(
    point: Mapping[str, Scalar], number: int, space: Mapping[str, Domain]
) -> Iterator[tuple[str, Scalar]]:
    for name, value in point.items():
        path = f"search.first_points.{number}.{name}"
        if name not in space:
            raise ConfigError(path, _unknown_name(name, space))
        resolved = member(space[name], value)
        if resolved is None:
            raise ConfigError(path, f"got {value!r}; expected {_domain_in_words(space[name])}")
        yield name, resolved


def _domain_in_words(domain: Domain) -> str:
    if domain.choices is not None:
        return f"one of {', '.join(map(repr, domain.choices))}"
    return f"a number from {domain.low:g} to {domain.high:g}"


def _unknown_name(name: str, known: Mapping[str, Domain]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return f"the workload has no such hyper-parameter, expected one of {', '.join(sorted(known))}{hint}"


def _kinds(domain: Domain) -> set[type]:
    return {float} if domain.choices is None else {type(value) for value in domain.choices}


def _in_words(kinds: set[type]) -> str:
    return " or ".join(sorted(kind.__name__ for kind in kinds))
