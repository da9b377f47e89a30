from __future__ import annotations

import random
from collections import Counter

import pytest

from aibench.architecture import Architecture, Shape
from aibench.architecture.morphs import Widen, apply, random_morph
from aibench.architecture.resnet import resnet
from aibench.counting import count
from aibench.search import evolution
from aibench.search.evolution import EvolutionarySearch
from aibench.search.mutator import Reach

INITIAL = resnet("resnet18", Shape(3, 16, 16), 10, width=8)


def evolutionary_search() -> EvolutionarySearch:
    max_train_ops = 4.0 * count(INITIAL).aiperf_ops.train
    return EvolutionarySearch(Reach(initial=INITIAL, max_morphs=3, max_train_ops=max_train_ops), seed=1)


def networks(num_networks: int, seed: int = 5) -> list[Architecture]:
    rng = random.Random(seed)
    return [random_morph(INITIAL, rng)[0] for _ in range(num_networks)]


def parents(search: EvolutionarySearch, num_asked: int) -> Counter[str | None]:
    """How often each network is a parent of the next children, none of which is told."""
    found: Counter[str | None] = Counter()
    for _ in range(num_asked):
        found[search.ask().lineage.parent] += 1
        search.claimed(INITIAL)
    return found


@pytest.fixture
def no_scratch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evolution, "FROM_SCRATCH_SHARE", 0.0)


@pytest.mark.usefixtures("no_scratch")
def test_the_best_of_the_tournament_is_the_parent() -> None:
    search = evolutionary_search()
    search.claimed(INITIAL)
    best, *others = networks(3)
    for network, error in ((others[0], 0.5), (best, 0.25), (others[1], 0.75)):
        search.tell(network, error)
    # 16 draws of three networks miss one of them once in 650 tournaments.
    assert parents(search, 40) == {best.content_hash: 40}


@pytest.mark.usefixtures("no_scratch")
def test_a_tournament_is_a_sample_of_the_population(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evolution, "TOURNAMENT_SIZE", 1)
    search = evolutionary_search()
    search.claimed(INITIAL)
    members = networks(4)
    for rank, network in enumerate(members):
        search.tell(network, 0.1 + 0.2 * rank)
    assert parents(search, 60).keys() == {network.content_hash for network in members}


@pytest.mark.usefixtures("no_scratch")
def test_the_oldest_member_leaves_however_good_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evolution, "POPULATION_SIZE", 3)
    search = evolutionary_search()
    search.claimed(INITIAL)
    champion, second, third, newest = networks(4)
    for network, error in ((champion, 0.0), (second, 0.5), (third, 0.6)):
        search.tell(network, error)
    assert parents(search, 20) == {champion.content_hash: 20}
    search.tell(newest, 0.9)
    assert parents(search, 20) == {second.content_hash: 20}


@pytest.mark.usefixtures("no_scratch")
def test_a_network_told_again_neither_enters_twice_nor_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evolution, "POPULATION_SIZE", 2)
    search = evolutionary_search()
    search.claimed(INITIAL)
    old, middle, new = networks(3)
    for network, error in ((old, 0.0), (middle, 0.3), (new, 0.6), (old, 0.0), (new, 0.0)):
        search.tell(network, error)
    assert parents(search, 20) == {middle.content_hash: 20}


def test_networks_without_an_error_never_enter() -> None:
    search = evolutionary_search()
    search.claimed(INITIAL)
    for network in networks(5):
        search.tell(network, None)
    assert parents(search, 20) == {INITIAL.content_hash: 20}


def test_a_tenth_of_the_children_descends_from_the_initial_network() -> None:
    search = evolutionary_search()
    search.claimed(INITIAL)
    (member,) = networks(1)
    search.tell(member, 0.5)
    assert evolution.FROM_SCRATCH_SHARE == 0.1
    from_initial = parents(search, 200)[INITIAL.content_hash]
    assert 8 <= from_initial <= 32  # 20 expected, 3 deviations of 4.2 either way


def test_offspring_improves() -> None:
    limit = 4.0 * count(INITIAL).aiperf_ops.train
    search = evolutionary_search()
    costs = []
    for _ in range(30):
        network = search.ask().architecture
        search.claimed(network)
        costs.append(count(network).aiperf_ops.train / limit)
        search.tell(network, 1.0 - costs[-1])  # the dearest networks are the best ones
    assert costs[0] == 0.25
    assert max(costs) > 0.95


@pytest.mark.usefixtures("no_scratch")
def test_children_of_the_initial_network_follow_when_parents_have_no_room_left() -> None:
    search = evolutionary_search()
    search.claimed(INITIAL)
    full = INITIAL
    while count(full).aiperf_ops.train < 4.0 * count(INITIAL).aiperf_ops.train:
        full = apply(full, Widen(1))
    search.tell(full, 0.0)
    assert parents(search, 10) == {INITIAL.content_hash: 10}
