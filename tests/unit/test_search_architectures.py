from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial

import pytest

from aibench.architecture import Architecture, Conv, Dense, GlobalAvgPool, Input, ReLU, Shape
from aibench.architecture.morphs import Widen, applicable, apply
from aibench.architecture.resnet import resnet
from aibench.counting import count
from aibench.search.base import ArchitectureSearch, Proposal
from aibench.search.evolution import EvolutionarySearch
from aibench.search.fixed import FixedArchitecture
from aibench.search.mutator import Reach
from aibench.search.network_morphism import NetworkMorphismSearch
from aibench.search.random_search import RandomArchitectureSearch

INITIAL = resnet("resnet18", Shape(3, 16, 16), 10, width=8)
TINY = Architecture(
    (
        Input(channels=1, height=1, width=1),
        Conv(inputs=(0,), channels=2, kernel=1),
        ReLU(inputs=(1,)),
        GlobalAvgPool(inputs=(2,)),
        Dense(inputs=(3,), features=10),
    )
)
UNMORPHABLE = Architecture(
    (Input(channels=3, height=8, width=8), GlobalAvgPool(inputs=(0,)), Dense(inputs=(1,), features=10))
)


Morphing = type[RandomArchitectureSearch] | type[EvolutionarySearch] | type[NetworkMorphismSearch]
MORPHING: list[Morphing] = [RandomArchitectureSearch, EvolutionarySearch, NetworkMorphismSearch]


def morphing_search(
    kind: Morphing,
    initial: Architecture = INITIAL,
    *,
    seed: int = 1,
    max_morphs: int = 3,
    max_ops_ratio: float = 4.0,
) -> ArchitectureSearch:
    max_train_ops = max_ops_ratio * count(initial).aiperf_ops.train
    reach = Reach(initial=initial, max_morphs=max_morphs, max_train_ops=max_train_ops)
    return kind(reach, seed=seed)


def run(search: ArchitectureSearch, num_trials: int, error: float | None = 0.5) -> list[Proposal]:
    proposals = []
    for _ in range(num_trials):
        proposals.append(search.ask())
        search.claimed(proposals[-1].architecture)
        search.tell(proposals[-1].architecture, error)
    return proposals


def hashes(proposals: list[Proposal]) -> list[str]:
    return [proposal.architecture.content_hash for proposal in proposals]


SEARCHES = [FixedArchitecture, *(partial(morphing_search, kind) for kind in MORPHING)]


@pytest.mark.parametrize("make", SEARCHES)
def test_the_first_network_is_the_initial_one(make: Callable[[Architecture], ArchitectureSearch]) -> None:
    proposal = make(INITIAL).ask()
    assert proposal.architecture == INITIAL
    assert (proposal.lineage.origin, proposal.lineage.parent, proposal.lineage.morphs) == (
        "initial",
        None,
        (),
    )


@pytest.mark.parametrize("make", SEARCHES)
@pytest.mark.parametrize("error", [float("nan"), -0.1, 1.1, float("inf")])
def test_what_is_no_error_is_refused(
    make: Callable[[Architecture], ArchitectureSearch], error: float
) -> None:
    with pytest.raises(ValueError, match=rf"validation error {error}: expected 0\.\.1, or None"):
        make(INITIAL).tell(INITIAL, error)


@pytest.mark.parametrize("make", SEARCHES)
def test_trials_without_an_error_and_repeats_are_harmless(
    make: Callable[[Architecture], ArchitectureSearch],
) -> None:
    search = make(INITIAL)
    for error in (None, 0.5, 0.5, 0.4, None, 0.0, 1.0):
        search.tell(INITIAL, error)
    assert search.ask().architecture == INITIAL


def test_no_search_always_trains_the_initial_network() -> None:
    assert set(hashes(run(FixedArchitecture(INITIAL), 5))) == {INITIAL.content_hash}


@pytest.mark.parametrize("kind", MORPHING)
def test_asking_again_before_the_claim_changes_nothing(kind: Morphing) -> None:
    search = morphing_search(kind)
    run(search, 3)
    assert search.ask() == search.ask()


@pytest.mark.parametrize("kind", MORPHING)
def test_children_differ_from_all_networks_before(kind: Morphing) -> None:
    assert len(set(hashes(run(morphing_search(kind), 60)))) == 60


@pytest.mark.parametrize(
    ("kind", "origin"),
    [
        (RandomArchitectureSearch, "random"),
        (EvolutionarySearch, "evolution"),
        (NetworkMorphismSearch, "network_morphism"),
    ],
)
def test_lineage_names_the_search_a_known_parent_and_the_morphs_in_order(kind: Morphing, origin: str) -> None:
    proposals = run(morphing_search(kind), 40)
    known = {proposal.architecture.content_hash: proposal.architecture for proposal in proposals}
    for child in proposals[1:]:
        assert child.lineage.origin == origin
        assert child.lineage.parent is not None
        network = known[child.lineage.parent]
        for text in child.lineage.morphs:
            (morph,) = [morph for morph in applicable(network) if str(morph) == text]
            network = apply(network, morph)
        assert network == child.architecture


@pytest.mark.parametrize("kind", MORPHING)
def test_the_number_of_morphs_varies_up_to_the_limit(kind: Morphing) -> None:
    numbers = {len(p.lineage.morphs) for p in run(morphing_search(kind, max_morphs=3), 60)[1:]}
    assert numbers <= {1, 2, 3}
    assert {2, 3} <= numbers
    assert {len(p.lineage.morphs) for p in run(morphing_search(kind, max_morphs=1), 20)[1:]} == {1}


@pytest.mark.parametrize("kind", MORPHING)
def test_parents_are_the_initial_network_and_those_with_an_error(kind: Morphing) -> None:
    told = {proposal.lineage.parent for proposal in run(morphing_search(kind), 60)[1:]}
    assert len(told) > 5
    untold = {proposal.lineage.parent for proposal in run(morphing_search(kind), 20, error=None)[1:]}
    assert untold == {INITIAL.content_hash}


@pytest.mark.parametrize("kind", MORPHING)
def test_no_child_costs_more_than_allowed(kind: Morphing) -> None:
    limit = 1.2 * count(INITIAL).aiperf_ops.train
    proposals = run(morphing_search(kind, max_ops_ratio=1.2), 60)
    costs = [count(p.architecture).aiperf_ops.train for p in proposals]
    assert max(costs) <= limit
    assert len(set(costs)) > 5


@pytest.mark.parametrize("kind", MORPHING)
def test_without_room_for_a_child_the_initial_network_is_trained_again(kind: Morphing) -> None:
    proposals = run(morphing_search(kind, max_ops_ratio=1.0), 3)
    assert [proposal.architecture for proposal in proposals] == [INITIAL] * 3
    assert {proposal.lineage.origin for proposal in proposals} == {"initial"}


@pytest.mark.parametrize("kind", MORPHING)
def test_a_network_without_morphs_is_trained_again(kind: Morphing) -> None:
    assert hashes(run(morphing_search(kind, UNMORPHABLE), 3)) == [UNMORPHABLE.content_hash] * 3


@pytest.mark.parametrize("kind", MORPHING)
def test_when_all_children_are_known_the_initial_network_is_trained_again(kind: Morphing) -> None:
    proposals = run(morphing_search(kind, TINY, max_morphs=1), 6, error=None)
    assert [p.lineage.parent for p in proposals] == [None, TINY.content_hash, *[None] * 4]


@pytest.mark.parametrize("kind", MORPHING)
def test_equal_seeds_give_equal_searches(kind: Morphing) -> None:
    first, second = (run(morphing_search(kind, seed=7), 20) for _ in range(2))
    assert first == second
    assert hashes(first)[1:] != hashes(run(morphing_search(kind, seed=8), 20))[1:]


@pytest.mark.parametrize("kind", MORPHING)
def test_a_resumed_search_goes_on_as_the_old_one_would_have(kind: Morphing) -> None:
    errors = [random.Random(number).random() for number in range(90)]
    whole, resumed = morphing_search(kind), morphing_search(kind)
    proposals = []
    for error in errors:
        proposals += run(whole, 1, error)
    for proposal in proposals[:80]:
        resumed.claimed(proposal.architecture)
    for proposal, error in zip(proposals[:80], errors, strict=False):
        resumed.tell(proposal.architecture, error)
    assert [run(resumed, 1, error)[0] for error in errors[80:]] == proposals[80:]


def test_random_search_does_not_mind_in_which_order_trials_end() -> None:
    whole = run(morphing_search(RandomArchitectureSearch), 30)
    resumed = morphing_search(RandomArchitectureSearch)
    for proposal in whole[:20]:
        resumed.claimed(proposal.architecture)
    for proposal in random.Random(3).sample(whole[:20], k=20):
        resumed.tell(proposal.architecture, 0.5)
    assert run(resumed, 10) == whole[20:]


@pytest.mark.parametrize("kind", MORPHING)
def test_networks_claimed_elsewhere_are_not_proposed(kind: Morphing) -> None:
    search = morphing_search(kind, TINY, max_morphs=1)
    search.claimed(TINY)
    only_child = search.ask().architecture
    search.claimed(only_child)
    assert only_child == apply(TINY, Widen(1))
    assert search.ask().architecture == TINY
