"""The tree of networks that a run trained: who came from whom, by which morphs, with which error."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

from aibench.api.events import Outcome
from aibench.score.history import RunHistory, TrialHistory

MAX_NETWORKS = 2000


class Network(msgspec.Struct, frozen=True, kw_only=True):
    """One distinct network and all trials that trained it; where trials differ, the first one's lineage.

    Attributes:
        architecture_hash: Content hash of the network as trained.
        trials: Numbers of its trials, in order.
        error: Lowest validation error of its trials; None where none has finished an epoch that counts.
        is_completed: Whether one of its trials trained all its epochs.
        parent: Hash of the network it was morphed from; None for a root.
        untrained_parent: Parent of its lineage that no earlier trial trained, which makes it a root.
        generation: Steps from its root.
        is_on_best_line: Whether it is the best trial's network or an ancestor of it.
        claimed_s: When its first trial was claimed, in seconds since the first trial of the run.
        ops_ratio: Training operations per image, as a multiple of those of the run's first trial.
    """

    architecture_hash: str
    trials: tuple[int, ...]
    error: float | None
    is_completed: bool
    origin: str
    parent: str | None
    untrained_parent: str | None
    morphs: tuple[str, ...]
    generation: int
    is_on_best_line: bool
    claimed_s: float
    parameters: int
    train_ops: int
    ops_ratio: float

    @property
    def first_trial(self) -> int:
        """The trial that trained it first."""
        return self.trials[0]


class TreeReport(msgspec.Struct, frozen=True, kw_only=True):
    """The networks of a run.

    Attributes:
        num_networks: All distinct networks.
        max_generation: Highest generation of a network; 0 for none.
        networks: In the order of their first trials, so that parents stand before their children; in a run
            of more than ``MAX_NETWORKS`` the best and all their ancestors.
    """

    num_networks: int
    max_generation: int
    networks: tuple[Network, ...]

    @property
    def best_line(self) -> tuple[Network, ...]:
        """From a root to the best trial's network; empty before the first finished epoch."""
        return tuple(network for network in self.networks if network.is_on_best_line)


def build_tree(history: RunHistory, best_trial: int | None) -> TreeReport:
    """Tell the tree from the claimed trials; a parent is always a network that was claimed earlier."""
    networks: dict[str, Network] = {}
    for digest, trials in _by_hash(history.trials.values()).items():
        networks[digest] = _network(trials, networks, history)
    if best_trial is not None:
        for digest in list(_line(history.trials[best_trial].claimed.architecture_hash, networks)):
            networks[digest] = msgspec.structs.replace(networks[digest], is_on_best_line=True)
    return TreeReport(
        num_networks=len(networks),
        max_generation=max((network.generation for network in networks.values()), default=0),
        networks=leading(tuple(networks.values()), MAX_NETWORKS),
    )


def leading(networks: Sequence[Network], most: int) -> tuple[Network, ...]:
    """The line of the best, then the networks of lowest error as far as they fit with all their ancestors.

    Args:
        networks: With the parents of all of them.
        most: Most networks to keep; the best line is kept whole.
    """
    if len(networks) <= most:
        return tuple(networks)
    by_hash = {network.architecture_hash: network for network in networks}
    kept = {network.architecture_hash for network in networks if network.is_on_best_line}
    for _, digest in sorted((n.error, n.architecture_hash) for n in networks if n.error is not None):
        new = itertools.takewhile(lambda ancestor: ancestor not in kept, _line(digest, by_hash))
        line = list(itertools.islice(new, max(0, most - len(kept)) + 1))
        if len(kept) + len(line) <= most:
            kept.update(line)
    return tuple(network for network in networks if network.architecture_hash in kept)


def _by_hash(trials: Iterable[TrialHistory]) -> dict[str, list[TrialHistory]]:
    groups: dict[str, list[TrialHistory]] = defaultdict(list)
    for trial in trials:
        groups[trial.claimed.architecture_hash].append(trial)
    return groups


def _network(trials: Sequence[TrialHistory], earlier: Mapping[str, Network], history: RunHistory) -> Network:
    first = trials[0]
    claimed, lineage = first.claimed, first.claimed.lineage
    parent = earlier.get(lineage.parent) if lineage.parent is not None else None
    return Network(
        architecture_hash=claimed.architecture_hash,
        trials=tuple(trial.number for trial in trials),
        error=min((trial.error for trial in trials if trial.error is not None), default=None),
        is_completed=any(t.closed is not None and t.closed.outcome is Outcome.COMPLETED for t in trials),
        origin=lineage.origin,
        parent=parent.architecture_hash if parent else None,
        untrained_parent=None if parent else lineage.parent,
        morphs=lineage.morphs,
        generation=parent.generation + 1 if parent else 0,
        is_on_best_line=False,
        claimed_s=first.claimed_s - (history.start_s or 0.0),
        parameters=claimed.parameters,
        train_ops=claimed.train_ops,
        ops_ratio=claimed.train_ops / history.trials[1].claimed.train_ops,
    )


def _line(digest: str | None, networks: Mapping[str, Network]) -> Iterator[str]:
    """A network's hash, its parent's, and so on to its root's."""
    while digest is not None:
        yield digest
        digest = networks[digest].parent
