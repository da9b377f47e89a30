"""The search as the master uses it: networks, hyper-parameters and the workers' proposals in one object."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import msgspec

from aibench.api.events import Lineage
from aibench.api.space import Domain
from aibench.api.workload import HyperParameters
from aibench.architecture import Architecture, Node, Shape
from aibench.architecture.graph import ArchitectureDocument
from aibench.architecture.morphs import Kinds
from aibench.counting import count
from aibench.errors import ArchitectureError, ConfigError
from aibench.search.base import ArchitectureSearch, Proposal, Told, check_error, initial_proposal
from aibench.search.config import SearchConfig, resolve_first_points
from aibench.search.evolution import EvolutionarySearch
from aibench.search.fitting import Fitted, Fitting
from aibench.search.fixed import FixedArchitecture
from aibench.search.hyperparameters import HyperParameterSearch
from aibench.search.memory import MemoryLimit
from aibench.search.mutator import Reach
from aibench.search.network_morphism import NetworkMorphismSearch
from aibench.search.neutral import Specialise, lasting_kinds
from aibench.search.pool import Admission, Fate, ProposalPool
from aibench.search.random_search import RandomArchitectureSearch

MAX_KNOWN_PARTS = 100_000
"""Layers and shapes that networks share."""
MAX_POOL_SIZE = 256
MIN_WANTED_PROPOSALS = 4
MIN_MISSED_TRIALS = 16
PROPOSALS_PER_WORKER = 2
"""As many are wanted, and as many trials may end before one is stale: by then as many were handed out."""

_MorphingSearch = RandomArchitectureSearch | EvolutionarySearch | NetworkMorphismSearch

_MORPHING_SEARCHES: dict[str, type[_MorphingSearch]] = {
    "random": RandomArchitectureSearch,
    "evolution": EvolutionarySearch,
    "network_morphism": NetworkMorphismSearch,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """What a trial trains. ``architecture`` is final: hyper-parameters that change it are applied."""

    architecture: Architecture
    lineage: Lineage
    hyper_parameters: HyperParameters


class Search:
    """Asked once per trial, told once per trial; pure, and rebuilt by `restore` and `tell` on resume.

    It answers the same to the same calls in the same order. Proposals that waited are lost with the master.

    Args:
        config: The ``search`` section.
        initial: The workload's initial network.
        space: Domain of each hyper-parameter, overrides applied.
        specialise: Applies those of the given hyper-parameters that change a network.
        seed: Seed of all draws.
        memory: What training may take; None for no limit.
        num_workers: Workers that may propose.

    Raises:
        ArchitectureError: A value of the space fits no network.
        ConfigError: The sampler needs a package that is not installed, a first point is not of the space, or
            the initial network takes too much memory.
    """

    def __init__(
        self,
        config: SearchConfig,
        initial: Architecture,
        *,
        space: Mapping[str, Domain],
        specialise: Specialise,
        seed: int,
        memory: MemoryLimit | None = None,
        num_workers: int = 1,
    ) -> None:
        self._is_enabled = config.is_enabled
        self._fitting = Fitting(initial, space=space, specialise=specialise, memory=memory)
        self._initial = self._fitting.initial
        self._max_train_ops = config.max_ops_ratio * count(self._initial).aiperf_ops.train
        self._kinds = lasting_kinds(self._initial, self._fitting.neutralised)
        self._trained_hashes: dict[str, str] = {}
        self._claimed_hashes: dict[str, str] = {}
        self._architectures = self._architecture_search(config, seed)
        self._hyper_parameters = HyperParameterSearch(
            space,
            sampler=config.hyper_parameters,
            seed=seed,
            first_points=resolve_first_points(config.first_points, space),
        )
        num_proposals = PROPOSALS_PER_WORKER * num_workers
        self._num_wanted = min(MAX_POOL_SIZE, max(MIN_WANTED_PROPOSALS, num_proposals))
        self._pool = ProposalPool(max_size=MAX_POOL_SIZE, max_missed=max(MIN_MISSED_TRIALS, num_proposals))
        self._told: list[Told] = []
        self._running: dict[int, Architecture] = {}
        self._known_parts: dict[Node | Shape, Node | Shape] = {}

    @property
    def num_waiting_proposals(self) -> int:
        """Workers' proposals that wait in the pool."""
        return len(self._pool)

    @property
    def wants_proposals(self) -> bool:
        """Whether few proposals wait, and workers have results to learn from."""
        return self._is_enabled and bool(self._trained_hashes) and len(self._pool) < self._num_wanted

    @property
    def proposal_fates(self) -> Mapping[Fate, int]:
        """What became of the workers' proposals."""
        return self._pool.fates

    @property
    def neutral_initial(self) -> Architecture:
        """The initial network as architecture searches see it."""
        return self._initial

    @property
    def kinds(self) -> Kinds:
        """The morphs that architecture searches draw."""
        return self._kinds

    @property
    def max_train_ops(self) -> float:
        """Most training operations per image of a network as architecture searches see it."""
        return self._max_train_ops

    def told_since(self, since: int, *, limit: int) -> Sequence[Told]:
        """At most ``limit`` of what `tell` was called with after its first ``since`` calls, in order."""
        return self._told[since : since + limit]

    def ask(self, trial: int) -> Candidate:
        """The candidate for a new trial: a worker's proposal if one waits, else the search's own.

        Raises:
            ValueError: The trial is running already.
        """
        if trial in self._running:
            raise ValueError(f"trial {trial}: is running already")
        proposal, fitted = self._fitted(trial, self._next_proposal())
        self._hyper_parameters.start(trial, fitted.hyper_parameters)
        self._claim(trial, fitted.architecture)
        return Candidate(
            architecture=fitted.architecture,
            lineage=proposal.lineage,
            hyper_parameters=fitted.hyper_parameters,
        )

    def restore(self, trial: int, architecture: Architecture, hyper_parameters: HyperParameters) -> None:
        """Take over a trial of the journal, as it was claimed.

        Raises:
            ConfigError: The hyper-parameters are not of this space.
            ValueError: The trial is running already.
        """
        for name in sorted(self._fitting.required - hyper_parameters.keys()):
            problem = f"trial {trial} has no {name}: it was drawn from another space than this one"
            raise ConfigError("search.space", problem)
        self._hyper_parameters.start(trial, hyper_parameters)
        self._claim(trial, architecture)

    def tell(self, trial: int, error: float | None) -> None:
        """A trial ended with this best validation error, or without one.

        Raises:
            ValueError: The trial is not running, or the error is not in 0..1.
        """
        check_error(error)
        self._hyper_parameters.tell(trial, None if error is None else 1.0 - error)
        architecture = self._running.pop(trial)
        neutral = self._fitting.neutralised(architecture)
        self._share(neutral)
        if error is not None:
            self._trained_hashes.setdefault(neutral.content_hash, architecture.content_hash)
        self._architectures.tell(neutral, error)
        self._told.append(Told(trial, neutral, error))
        self._pool.trial_closed()

    def propose(
        self, document: ArchitectureDocument, lineage: Lineage, *, bound: float, num_known: int
    ) -> Admission:
        """Take a worker's proposal into the pool, or say why not; nothing in it can raise.

        Args:
            bound: Validation error that the worker hopes for; finite.
            num_known: Closed trials that the worker had learned from, as `told_since` counts them.
        """
        if not self._is_enabled:
            return self._pool.refuse("this run searches no architectures")
        try:
            architecture = self._fitting.neutralised(document.to_architecture())
            self._check_proposal(architecture)
        except (ArchitectureError, ValueError) as error:  # Python prints no integer over 4,300 digits
            return self._pool.refuse(str(error))
        lineage = msgspec.structs.replace(lineage, origin="worker")
        proposal = Proposal(architecture=architecture, lineage=lineage, bound=bound)
        return self._pool.add(proposal, num_known=num_known)

    def _architecture_search(self, config: SearchConfig, seed: int) -> ArchitectureSearch:
        if not config.is_enabled:
            return FixedArchitecture(self._initial)
        reach = Reach(
            initial=self._initial,
            max_morphs=config.max_morphs,
            max_train_ops=self._max_train_ops,
            fits=self._fitting.fits,
            kinds=self._kinds,
        )
        return _MORPHING_SEARCHES[config.architecture](reach, seed=seed)

    def _next_proposal(self) -> Proposal:
        """A worker's proposal or the search's own; its lineage names the parent as it was or is trained."""
        proposal = self._pool.take() or self._architectures.ask()
        parent = proposal.lineage.parent
        if parent is None:
            return proposal
        parent = self._trained_hashes.get(parent) or self._claimed_hashes.get(parent, parent)
        return replace(proposal, lineage=msgspec.structs.replace(proposal.lineage, parent=parent))

    def _fitted(self, trial: int, proposal: Proposal) -> tuple[Proposal, Fitted]:
        fitted = self._fitting.fitted(proposal.architecture, self._hyper_parameters.draws(trial))
        if fitted is None:
            # Only the workload knows what a network can take; its own initial one takes all of its space.
            proposal = initial_proposal(self._initial)
            fitted = self._fitting.fitted(self._initial, self._hyper_parameters.draws(trial))
        assert fitted is not None
        return proposal, fitted

    def _share(self, architecture: Architecture) -> None:
        if len(self._known_parts) > MAX_KNOWN_PARTS:
            self._known_parts.clear()
        architecture.share(self._known_parts)

    def _claim(self, trial: int, architecture: Architecture) -> None:
        self._share(architecture)
        self._running[trial] = architecture
        neutral = self._fitting.neutralised(architecture)
        self._claimed_hashes.setdefault(neutral.content_hash, architecture.content_hash)
        self._architectures.claimed(neutral)
        self._pool.claimed(neutral.content_hash)

    def _check_proposal(self, architecture: Architecture) -> None:
        for side in ("input_shape", "output_shape"):
            found, expected = getattr(architecture, side), getattr(self._initial, side)
            if found != expected:
                raise ArchitectureError(f"{side.replace('_', ' ')} {found}: expected {expected}")
        counts = count(architecture)
        if counts.parameters == 0:
            raise ArchitectureError("0 parameters: expected a network that can be trained")
        if counts.aiperf_ops.train > self._max_train_ops:
            raise ArchitectureError(
                f"{counts.aiperf_ops.train} training operations per image: expected at most "
                f"{self._max_train_ops:.0f} (search.max_ops_ratio)"
            )
        if (excess := self._fitting.excess(architecture)) is not None:
            raise ArchitectureError(f"{excess} (search.max_memory_gib)")
