"""Which worker a place becomes whose launcher could not name it, such as one pod of many alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from aibench.api.protocol import EnlistReply, EnlistRequest
from aibench.errors import ProtocolError
from aibench.score.history import RunHistory

RETRY_AFTER_S = 2.0


@dataclass(frozen=True, slots=True)
class _Promise:
    place: str
    given_s: float


class Enlistment:
    """Gives each asking place a worker of its pool that nobody is.

    A promise that is not followed by a join lapses. Promises are lost with the master: places that were not
    yet joined ask again.

    Args:
        pools: The workers of each pool, in order.
        now_s: The run's clock.
        patience_s: How long a place may take from its promise to its join.
    """

    def __init__(
        self,
        pools: Mapping[str, Sequence[str]],
        history: RunHistory,
        now_s: Callable[[], float],
        *,
        patience_s: float,
    ) -> None:
        self._pools = pools
        self._history = history
        self._now_s = now_s
        self._patience_s = patience_s
        self._promises: dict[str, _Promise] = {}

    def enlist(self, request: EnlistRequest) -> EnlistReply:
        """The worker of this place: again the same, else the first free one, else a pause.

        Raises:
            ProtocolError: 404 if there is no such pool.
        """
        if request.pool not in self._pools:
            raise ProtocolError(404, f"no pool {request.pool!r}; expected one of {', '.join(self._pools)}")
        workers = self._pools[request.pool]
        chosen = next((worker for worker in workers if self._holder(worker) == request.place), None)
        chosen = chosen or next((worker for worker in workers if self._holder(worker) is None), None)
        if chosen is None:
            return EnlistReply(retry_after_s=RETRY_AFTER_S)
        self._promises[chosen] = _Promise(request.place, self._now_s())
        return EnlistReply(worker=chosen)

    def joined(self, worker: str) -> None:
        """Note that somebody is this worker now: from here on the history knows."""
        self._promises.pop(worker, None)

    def _holder(self, worker: str) -> str | None:
        """The place that is this worker, or was promised to be."""
        promise = self._promises.get(worker)
        if promise is not None and self._now_s() - promise.given_s < self._patience_s:
            return promise.place
        known = self._history.workers.get(worker)
        return known.joined.host if known is not None and known.lost_s is None else None
