from __future__ import annotations

from aibench.api.events import Lineage
from aibench.architecture import Architecture, Flatten, Input
from aibench.search.base import Proposal
from aibench.search.pool import ProposalPool


def proposal(number: int, *, parent: str | None = None) -> Proposal:
    network = Architecture((Input(channels=number, height=1, width=1), Flatten(inputs=(0,))))
    return Proposal(architecture=network, lineage=Lineage(origin="worker", parent=parent))


def hash_of(number: int) -> str:
    return proposal(number).architecture.content_hash


def drain(pool: ProposalPool) -> list[Proposal]:
    taken = []
    while (oldest := pool.take()) is not None:
        taken.append(oldest)
    return taken


def test_proposals_leave_in_the_order_they_came() -> None:
    pool = ProposalPool(max_size=3)
    for number in (1, 2, 3):
        assert pool.add(proposal(number)) == (True, "")
    assert len(pool) == 3
    assert drain(pool) == [proposal(1), proposal(2), proposal(3)]
    assert len(pool) == 0


def test_an_empty_pool_gives_nothing() -> None:
    assert ProposalPool(max_size=1).take() is None


def test_a_full_pool_drops_the_oldest() -> None:
    pool = ProposalPool(max_size=2)
    for number in (1, 2, 3):
        pool.add(proposal(number))
    assert drain(pool) == [proposal(2), proposal(3)]


def test_a_dropped_network_may_come_back() -> None:
    pool = ProposalPool(max_size=1)
    pool.add(proposal(1))
    pool.add(proposal(2))
    assert pool.add(proposal(1)).accepted


def test_the_same_network_waits_only_once_and_drops_no_other() -> None:
    pool = ProposalPool(max_size=2)
    pool.add(proposal(1))
    pool.add(proposal(2))
    twin = proposal(2, parent="another")
    assert pool.add(twin) == (False, "the same network waits in the pool already")
    assert drain(pool) == [proposal(1), proposal(2)]


def test_a_claimed_network_never_comes_back() -> None:
    pool = ProposalPool(max_size=2)
    pool.claimed(hash_of(1))
    assert pool.add(proposal(1)) == (False, "a trial has had the same network already")
    assert len(pool) == 0


def test_a_network_claimed_elsewhere_stops_waiting() -> None:
    pool = ProposalPool(max_size=2)
    pool.add(proposal(1))
    pool.add(proposal(2))
    pool.claimed(hash_of(1))
    assert drain(pool) == [proposal(2)]
