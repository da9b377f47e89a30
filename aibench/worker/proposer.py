"""The search beside the training: a process that looks for networks while the ranks' devices are busy.

It knows the run by what the master tells it: the history of closed trials, which it repeats to an
architecture search of its own. It has more time than the master, so it compares many more networks for one
proposal. It imports neither torch nor optuna, and takes no part in the process group.
"""

from __future__ import annotations

import hashlib
import logging
import math
import random
import time
from pathlib import Path

from aibench.api.protocol import (
    HistoryEntry,
    HistoryReply,
    HistoryRequest,
    ProposeReply,
    ProposeRequest,
    SearchBrief,
)
from aibench.architecture.morphs import KINDS_BY_NAME
from aibench.errors import ArchitectureError, ProtocolError
from aibench.search.base import ArchitectureSearch
from aibench.search.evolution import EvolutionarySearch
from aibench.search.mutator import Reach
from aibench.search.network_morphism import NetworkMorphismSearch
from aibench.worker.connection import Connection

logger = logging.getLogger(__name__)

NUM_CANDIDATES = 256
SETBACK_PAUSE_S = 2.0
"""After a refusal: of the proposal, because others had it first, or of the worker, until it has joined."""


class Proposer:
    """Learns what the master knows and proposes networks while the master wants some.

    Args:
        worker: For whom it speaks.
        incarnation: The life of that worker's gang that it belongs to.
    """

    def __init__(self, control_file: Path, brief: SearchBrief, *, worker: str, incarnation: str) -> None:
        self._connection = Connection(control_file)
        self._worker = worker
        self._incarnation = incarnation
        self._search = _open_search(brief, f"{brief.seed}:{worker}:{incarnation}")
        self._num_known = 0
        self.num_set_aside = 0
        self._jitter = random.Random(incarnation)  # noqa: S311

    def run(self) -> None:
        """Serve until the run ends. A master that is away is waited for.

        Raises:
            ProtocolError: The master refused something that asking again does not mend.
        """
        while (pause_s := self.turn()) is not None:
            # Proposers that started together shall not ask together.
            time.sleep(pause_s * self._jitter.uniform(0.5, 1.5))
        self._connection.close()

    def turn(self) -> float | None:
        """Learn what is new and propose one network if it is wanted; seconds to pause, None at the end."""
        try:
            reply = self._catch_up()
            if reply.stop:
                return None
            if not reply.wants_proposal:
                return reply.pause_s
            answer = self._propose()
        except ProtocolError as error:
            if not error.must_join:
                raise
            return SETBACK_PAUSE_S  # the ranks will join again, or end, and this process with them
        if answer.stop:
            return None
        return reply.pause_s + (0.0 if answer.accepted else SETBACK_PAUSE_S)

    def _catch_up(self) -> HistoryReply:
        while True:
            request = HistoryRequest(
                worker=self._worker, incarnation=self._incarnation, since=self._num_known
            )
            reply = self._connection.call_until("/v1/history", request, HistoryReply, timeout_s=math.inf)
            for entry in reply.entries:
                self._learn(entry)
            if reply.stop or reply.next_since == self._num_known:
                return reply
            self._num_known = reply.next_since

    def _learn(self, entry: HistoryEntry) -> None:
        try:
            if entry.error is None:
                raise ValueError("no validation error")
            network = entry.architecture.to_architecture()
            self._search.tell(network, entry.error)
            self._search.claimed(network)
        except (ArchitectureError, ValueError) as error:
            self.num_set_aside += 1
            logger.warning(
                "trial %d is set aside, number %d so far: %s", entry.trial, self.num_set_aside, error
            )

    def _propose(self) -> ProposeReply:
        proposal = self._search.ask()
        self._search.claimed(proposal.architecture)
        request = ProposeRequest(
            worker=self._worker,
            incarnation=self._incarnation,
            architecture=proposal.architecture.to_document(),
            lineage=proposal.lineage,
            bound=proposal.bound,
            num_known=self._num_known,
        )
        answer = self._connection.call_until("/v1/propose", request, ProposeReply, timeout_s=math.inf)
        if not answer.accepted:
            logger.info("a proposal was refused: %s", answer.reason)
        return answer


def _open_search(brief: SearchBrief, name: str) -> ArchitectureSearch:
    """The run's search with draws of its own; the first trial, the initial network, is the master's."""
    reach = Reach(
        initial=brief.initial.to_architecture(),
        max_morphs=brief.max_morphs,
        max_train_ops=brief.max_train_ops,
        kinds=tuple(KINDS_BY_NAME[morph] for morph in brief.morphs),
    )
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8])
    search: ArchitectureSearch
    if brief.algorithm == "evolution":
        search = EvolutionarySearch(reach, seed=seed)
    else:
        search = NetworkMorphismSearch(reach, seed=seed, num_candidates=NUM_CANDIDATES)
    search.claimed(reach.initial)
    return search
