"""Hyper-parameters that suit a network: those that matter to it, with values that it can be trained with."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from aibench.api.space import Domain
from aibench.api.workload import HyperParameters
from aibench.architecture import Architecture
from aibench.errors import ArchitectureError, ConfigError
from aibench.search.domains import corner_values
from aibench.search.memory import MemoryLimit, least_memory
from aibench.search.neutral import Specialise, neutral_values

MAX_DRAWS = 4


class Fitted(NamedTuple):
    """A final network and the hyper-parameters it gets."""

    architecture: Architecture
    hyper_parameters: HyperParameters


class Fitting:
    """Knows what each hyper-parameter does to a network, and what training may take.

    Args:
        initial: The workload's initial network.
        space: Domain of each hyper-parameter, overrides applied.
        specialise: Applies those of the given hyper-parameters that change a network.
        memory: What training may take; None for no limit.

    Raises:
        ArchitectureError: A value of the space fits no network.
        ConfigError: The initial network takes too much memory.
    """

    def __init__(
        self,
        initial: Architecture,
        *,
        space: Mapping[str, Domain],
        specialise: Specialise,
        memory: MemoryLimit | None = None,
    ) -> None:
        self.space = space
        self._specialise = specialise
        self._memory = memory
        self._neutral = neutral_values(initial, space, specialise)
        self._least = {} if memory is None else least_memory(initial, space, memory.estimate)
        self._fallback = {**self._least, **self._neutral}
        self.initial = specialise(initial, self._neutral)
        if (excess := self.excess(self.initial)) is not None:
            raise ConfigError("search.max_memory_gib", f"the initial network {excess}; {self._remedy()}")

    @property
    def required(self) -> frozenset[str]:
        """The hyper-parameters that every trial has, because more than the network depends on them."""
        return frozenset(self.space) - self._neutral.keys()

    def neutralised(self, architecture: Architecture) -> Architecture:
        """The network without what hyper-parameters made of it; the same if they cannot change it."""
        try:
            return self._specialise(architecture, self._neutral)
        except ArchitectureError:
            return architecture

    def fitted(self, architecture: Architecture, draws: Iterator[HyperParameters]) -> Fitted | None:
        """The network with the first draw that fits it; else with neutral and frugal values, if these do.

        A hyper-parameter that changes the network and of which every value leads to this one is left out.
        """
        relevant = self._relevant(architecture)
        drawn: HyperParameters = {}
        for draw in itertools.islice(draws, MAX_DRAWS):
            drawn = {name: value for name, value in draw.items() if name in relevant}
            if (fitted := self._applied(architecture, drawn)) is not None:
                return fitted
        fallback = {name: value for name, value in self._fallback.items() if name in relevant}
        return self._applied(architecture, {**drawn, **fallback})

    def fits(self, architecture: Architecture) -> bool:
        """Whether training the neutral network can be kept within the memory limit."""
        return self.excess(architecture) is None

    def problem_with(self, hyper_parameters: HyperParameters) -> str | None:
        """Why the initial network cannot be trained with these, in part or whole; None if it can."""
        try:
            final = self._specialise(self.initial, hyper_parameters)
        except ArchitectureError as error:
            return str(error)
        excess = self.excess(final, hyper_parameters)
        return None if excess is None else f"the initial network {excess} (search.max_memory_gib)"

    def excess(
        self, architecture: Architecture, hyper_parameters: HyperParameters | None = None
    ) -> str | None:
        """By how much training takes too much memory, in words; None if it does not.

        Args:
            architecture: Final, or neutral.
            hyper_parameters: In place of those that take least memory; in part or whole.
        """
        if self._memory is None:
            return None
        first = {name: corner_values(domain)[0] for name, domain in self.space.items()}
        values = {**first, **self._fallback, **(hyper_parameters or {})}
        if self._memory.allows(architecture, values):
            return None
        decisive = ", ".join(f"{name} {values[name]}" for name in self._least)
        return self._memory.excess(architecture, values) + (f" (with {decisive})" if decisive else "")

    def _relevant(self, architecture: Architecture) -> frozenset[str]:
        changing = (name for name in self._neutral if self._changes(architecture, name))
        return self.required.union(changing)

    def _changes(self, architecture: Architecture, name: str) -> bool:
        neutral = self._neutral[name]
        values = sorted(corner_values(self.space[name]), key=lambda value: value == neutral)
        return any(self._is_changed(architecture, {name: value}) for value in values)

    def _is_changed(self, architecture: Architecture, hyper_parameters: HyperParameters) -> bool:
        try:
            return self._specialise(architecture, hyper_parameters) != architecture
        except ArchitectureError:
            return False

    def _applied(self, architecture: Architecture, hyper_parameters: HyperParameters) -> Fitted | None:
        try:
            final = self._specialise(architecture, hyper_parameters)
        except ArchitectureError:
            return None
        if self._memory is not None and not self._memory.allows(final, hyper_parameters):
            return None
        return Fitted(final, hyper_parameters)

    def _remedy(self) -> str:
        ranks = " or use more ranks"
        smaller = "".join(f", offer a smaller search.space.{name}" for name in self._least)
        return f"raise the limit{smaller}{ranks if self._least else ''}"
