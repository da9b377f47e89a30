"""No architecture search: every trial trains the initial network."""

from __future__ import annotations

from aibench.architecture import Architecture
from aibench.search.base import Proposal, check_error, initial_proposal


class FixedArchitecture:
    """An `ArchitectureSearch` with one answer."""

    def __init__(self, initial: Architecture) -> None:
        self._proposal = initial_proposal(initial)

    def ask(self) -> Proposal:
        """The initial network."""
        return self._proposal

    def claimed(self, architecture: Architecture) -> None:
        """Nothing to learn."""

    def tell(self, architecture: Architecture, error: float | None) -> None:
        """Nothing to learn.

        Raises:
            ValueError: The error is not in 0..1.
        """
        check_error(error)
