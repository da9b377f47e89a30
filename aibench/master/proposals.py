"""The master's side of the workers' searches: what it tells them, and how often it wants to be told."""

from __future__ import annotations

from aibench.api.protocol import (
    HistoryEntry,
    HistoryReply,
    ProposeReply,
    ProposeRequest,
    SearchBrief,
)
from aibench.architecture.morphs import KINDS_BY_NAME
from aibench.config import RunConfig
from aibench.search.search import Search

MAX_PROPOSALS_PER_S = 20
"""Of all workers together: reading and counting one takes the master milliseconds."""
FULL_POOL_PAUSE_S = 1.0
MAX_HISTORY_ENTRIES = 64
"""Of one reply: claims wait while it is written."""


class ProposalService:
    """Speaks with the proposers of all workers; whether they are workers of this run is checked before."""

    def __init__(self, search: Search, config: RunConfig) -> None:
        self.brief = _brief(search, config)
        self._search = search
        self._pause_s = config.num_workers / MAX_PROPOSALS_PER_S

    def propose(self, request: ProposeRequest, *, stop: bool) -> ProposeReply:
        """Put an architecture into the pool, or say why not."""
        admission = self._search.propose(
            request.architecture, request.lineage, bound=request.bound, num_known=request.num_known
        )
        return ProposeReply(accepted=admission.accepted, reason=admission.reason, stop=stop)

    def history_since(self, since: int, *, stop: bool) -> HistoryReply:
        """Networks without what hyper-parameters made of them, and the errors that the search was told."""
        told = self._search.told_since(since, limit=MAX_HISTORY_ENTRIES)
        wants_proposal = self._search.wants_proposals and not stop
        return HistoryReply(
            entries=tuple(
                HistoryEntry(trial=one.trial, architecture=one.architecture.to_document(), error=one.error)
                for one in told
                if one.error is not None
            ),
            next_since=since + len(told),
            wants_proposal=wants_proposal,
            pause_s=self._pause_s if wants_proposal else self._pause_s + FULL_POOL_PAUSE_S,
            stop=stop,
        )


def _brief(search: Search, config: RunConfig) -> SearchBrief | None:
    """None if nothing is to be proposed."""
    algorithm = config.search.architecture
    if not config.search.worker_proposals or algorithm == "none":
        return None
    if algorithm == "random":
        return None  # nothing to gain: its networks cost nothing to find, and none is better than another
    return SearchBrief(
        algorithm=algorithm,
        initial=search.neutral_initial.to_document(),
        max_morphs=config.search.max_morphs,
        max_train_ops=search.max_train_ops,
        morphs=tuple(name for name, kind in KINDS_BY_NAME.items() if kind in search.kinds),
        seed=config.seed,
    )
