from __future__ import annotations

import random

from aibench.api.events import Lineage
from aibench.architecture import Architecture, Flatten, Input
from aibench.search.base import Proposal
from aibench.search.pool import Fate, ProposalPool


def proposal(number: int, *, bound: float = 0.5, parent: str | None = None) -> Proposal:
    network = Architecture((Input(channels=number, height=1, width=1), Flatten(inputs=(0,))))
    return Proposal(architecture=network, lineage=Lineage(origin="worker", parent=parent), bound=bound)


def hash_of(number: int) -> str:
    return proposal(number).architecture.content_hash


def make_pool(*, max_size: int = 8, max_missed: int = 2, num_closed: int = 0) -> ProposalPool:
    pool = ProposalPool(max_size=max_size, max_missed=max_missed)
    for _ in range(num_closed):
        pool.trial_closed()
    return pool


def add(pool: ProposalPool, number: int, bound: float = 0.5, *, num_known: int = 0) -> tuple[bool, str]:
    return pool.add(proposal(number, bound=bound), num_known=num_known)


def drain(pool: ProposalPool) -> list[int]:
    """The numbers of the proposals, in the order they leave."""
    taken = []
    while (best := pool.take()) is not None:
        taken.append(best.architecture.input_shape.channels)
    return taken


def test_the_proposal_with_the_least_bound_leaves_first() -> None:
    pool = make_pool()
    for number, bound in ((1, 0.3), (2, -0.1), (3, 0.7), (4, 0.2)):
        assert add(pool, number, bound) == (True, "")
    assert len(pool) == 4
    assert drain(pool) == [2, 4, 1, 3]
    assert len(pool) == 0


def test_of_equal_bounds_the_one_that_knew_most_leaves_first_then_the_first_come() -> None:
    pool = make_pool(num_closed=2)
    for number, num_known in ((1, 0), (2, 1), (3, 2), (4, 1)):
        add(pool, number, num_known=num_known)
    assert drain(pool) == [3, 2, 4, 1]


def test_an_empty_pool_gives_nothing() -> None:
    assert make_pool().take() is None


def test_what_is_taken_is_what_was_added() -> None:
    pool = make_pool()
    added = proposal(1, bound=0.25, parent="parent")
    pool.add(added, num_known=0)
    assert pool.take() == added


def test_a_full_pool_drops_the_worst() -> None:
    pool = make_pool(max_size=2)
    for number, bound in ((1, 0.5), (2, 0.9), (3, 0.1)):
        add(pool, number, bound)
    assert drain(pool) == [3, 1]
    assert pool.fates[Fate.DISPLACED] == 1


def test_a_full_pool_refuses_what_is_worse_than_all_it_has() -> None:
    pool = make_pool(max_size=2)
    add(pool, 1, 0.5)
    add(pool, 2, 0.4)
    assert add(pool, 3, 0.6) == (False, "2 better ones wait in the pool")
    assert add(pool, 4, 0.5) == (False, "2 better ones wait in the pool")
    assert drain(pool) == [2, 1]


def test_a_dropped_network_may_come_back() -> None:
    pool = make_pool(max_size=1)
    add(pool, 1, 0.5)
    add(pool, 2, 0.4)
    assert add(pool, 1, 0.3) == (True, "")
    assert drain(pool) == [1]


def test_the_same_network_waits_only_once_and_drops_no_other() -> None:
    pool = make_pool(max_size=2)
    add(pool, 1)
    add(pool, 2)
    assert add(pool, 2, 0.1) == (False, "the same network waits in the pool already")
    assert drain(pool) == [1, 2]


def test_a_claimed_network_never_comes_back() -> None:
    pool = make_pool()
    pool.claimed(hash_of(1))
    assert add(pool, 1) == (False, "a trial has had the same network already")
    assert len(pool) == 0


def test_a_network_claimed_elsewhere_stops_waiting() -> None:
    pool = make_pool()
    add(pool, 1)
    add(pool, 2)
    pool.claimed(hash_of(1))
    assert drain(pool) == [2]


def test_a_waiting_proposal_that_misses_too_many_closed_trials_is_dropped() -> None:
    pool = make_pool(max_missed=2, num_closed=1)
    add(pool, 1, 0.1, num_known=0)
    add(pool, 2, 0.9, num_known=1)
    pool.trial_closed()
    assert len(pool) == 2, "it misses two, as it may"
    pool.trial_closed()
    assert len(pool) == 1
    assert drain(pool) == [2]
    assert pool.fates[Fate.STALE] == 1


def test_a_proposal_that_is_stale_on_arrival_is_refused() -> None:
    pool = make_pool(max_missed=2, num_closed=5)
    assert add(pool, 1, num_known=2) == (False, "it builds on 2 of 5 closed trials, too few by now")
    assert add(pool, 1, num_known=3) == (True, "")


def test_a_proposal_that_claims_to_know_trials_that_have_not_ended_is_refused() -> None:
    pool = make_pool(num_closed=5)
    assert add(pool, 1, num_known=6) == (False, "it builds on 6 closed trials: expected at most 5")


def test_the_fate_of_every_proposal_is_counted() -> None:
    pool = make_pool(max_size=2, max_missed=1)
    for number, bound in ((1, 0.4), (2, 0.3), (3, 0.2), (3, 0.1), (4, 0.9)):
        add(pool, number, bound)
    pool.take()
    pool.refuse("no network at all")
    pool.trial_closed()
    pool.trial_closed()
    # 1 gave way to 3, the second 3 and 4 were refused, 3 left first, 2 became stale.
    assert pool.fates == {
        Fate.ACCEPTED: 3,
        Fate.REFUSED: 3,
        Fate.HANDED_OUT: 1,
        Fate.STALE: 1,
        Fate.DISPLACED: 1,
    }


def test_the_same_calls_get_the_same_answers() -> None:
    def play() -> list[object]:
        rng = random.Random(7)
        pool = make_pool(max_size=5, max_missed=3)
        answers: list[object] = []
        for num_closed in range(1, 40):
            pool.trial_closed()
            for _ in range(3):
                known = num_closed - rng.randrange(3)
                answers.append(add(pool, rng.randrange(60) + 1, rng.choice((0.1, 0.2)), num_known=known))
            taken = pool.take()
            answers.append(taken)
            if taken is not None:
                pool.claimed(taken.architecture.content_hash)
        return answers

    first = play()
    assert first == play()
    assert (True, "") in first
