"""The tree of networks in words: morphs, the line of the best, and the tree as rows of text."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from aibench.score.lineage import Network, TreeReport

MAX_FAMILY_ROWS = 300

_LAYERS = {"conv": "a convolution", "block": "a residual block"}
_SKIPS = {"add": " by addition", "concat": " by concatenation"}
_MORPH = re.compile(
    r"""deepen@(?P<deepen>\d+):(?P<layers>conv|block)
    | widen@(?P<widen>\d+):x(?P<factor>\d+)
    | skip@(?P<source>\d+)-(?P<target>\d+)(:(?P<skip>add|concat))?
    | kernel@(?P<kernel>\d+):(?P<size>\d+)""",
    re.VERBOSE | re.ASCII,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """A network in the tree as text: what made it from its parent, and what that came to.

    Attributes:
        change: The morphs in words, or where a root comes from.
        error_change: Its error less its parent's; None where either has none.
    """

    network: Network
    change: str
    error_change: float | None


def morph_words(morph: str) -> str:
    """A morph as people say it; a text that is none of ours as it is."""
    found = _MORPH.fullmatch(morph)
    if found is None:
        return morph
    part = found.groupdict()
    if part["deepen"]:
        return f"deepened by {_LAYERS[part['layers']]} at node {part['deepen']}"
    if part["widen"]:
        return f"widened ×{part['factor']} at node {part['widen']}"
    if part["source"]:
        return f"skip{_SKIPS.get(part['skip'], '')} from node {part['source']} to {part['target']}"
    return f"kernel enlarged to {part['size']}×{part['size']} at node {part['kernel']}"


def change_words(network: Network) -> str:
    """How a network came to be."""
    words = ", ".join(map(morph_words, network.morphs))
    if network.parent is not None:
        return words or "unchanged"
    if network.untrained_parent is not None:
        return f"from {network.untrained_parent[:8]}, which no earlier trial trained: {words or 'unchanged'}"
    start = "the initial network" if network.origin == "initial" else f"a network of origin {network.origin}"
    return f"{start}: {words}" if words else start


def pedigree(tree: TreeReport) -> tuple[Step, ...]:
    """From a root to the best network."""
    return tuple(_steps(tree.best_line, tree.best_line))


def family(networks: Sequence[Network]) -> tuple[Step, ...]:
    """All of the tree, each network followed by its descendants, siblings in the order of their trials.

    Args:
        networks: With the parents of all of them, parents before their children.
    """
    children: dict[str | None, list[Network]] = defaultdict(list)
    for network in reversed(networks):
        children[network.parent].append(network)
    ordered: list[Network] = []
    waiting = children[None]
    while waiting:
        ordered.append(waiting.pop())
        waiting += children[ordered[-1].architecture_hash]
    return tuple(_steps(ordered, networks))


def _steps(networks: Sequence[Network], family: Sequence[Network]) -> Iterator[Step]:
    errors: dict[str | None, float | None] = {network.architecture_hash: network.error for network in family}
    for network in networks:
        before = errors.get(network.parent)
        change = None if network.error is None or before is None else network.error - before
        yield Step(network=network, change=change_words(network), error_change=change)
