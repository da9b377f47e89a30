"""What every architecture search is: a pure object that is asked, and told how its answers did."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

from aibench.api.events import Lineage
from aibench.architecture import Architecture


@dataclass(frozen=True, kw_only=True, slots=True)
class Proposal:
    """A network that a trial may train, and where it comes from.

    Attributes:
        bound: Validation error that its search hopes for, below 0 perhaps but finite; of several proposals of
            one search the least is tried first. A search that ranks nothing leaves it at 1.
    """

    architecture: Architecture
    lineage: Lineage
    bound: float = 1.0


class ArchitectureSearch(Protocol):
    """Proposes networks one after another. Reads no clock and no file; one thread uses it.

    Every trial is one `ask`, then one `claimed`, later at most one `tell`. A resumed search is rebuilt by the
    `claimed` and `tell` of the journal and then answers as the old one would have.
    """

    def ask(self) -> Proposal:
        """The network for the next trial; the same until `claimed` is called."""
        ...

    def claimed(self, architecture: Architecture) -> None:
        """The network the next trial got: as asked, from a worker, or from the journal."""
        ...

    def tell(self, architecture: Architecture, error: float | None) -> None:
        """A trial of the network ended with this validation error, or without one.

        Told again, a network changes nothing.

        Raises:
            ValueError: The error is not in 0..1.
        """
        ...


class Told(NamedTuple):
    """What a search was told of one trial."""

    trial: int
    architecture: Architecture
    error: float | None


def initial_proposal(initial: Architecture) -> Proposal:
    """The network that every search starts from."""
    return Proposal(architecture=initial, lineage=Lineage(origin="initial"))


def check_error(error: float | None) -> None:
    """Refuse an error that is none.

    Raises:
        ValueError: Not None, and not in 0..1.
    """
    if error is not None and not is_usable_error(error):
        raise ValueError(f"validation error {error}: expected 0..1, or None for a trial without one")


def is_usable_error(error: float) -> bool:
    """Whether it is a validation error, finite and in 0..1; whoever reads errors from outside asks first."""
    return 0.0 <= error <= 1.0
