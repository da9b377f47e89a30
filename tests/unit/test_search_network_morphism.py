from __future__ import annotations

import math
import random

import numpy as np
import pytest

from aibench.architecture import Architecture, Shape
from aibench.architecture.morphs import Deepen, apply, random_morph
from aibench.architecture.resnet import resnet
from aibench.counting import count
from aibench.search import network_morphism
from aibench.search.embedding import NUM_FEATURES, embed
from aibench.search.gaussian_process import Prediction
from aibench.search.mutator import Reach
from aibench.search.network_morphism import NetworkMorphismSearch
from aibench.search.surrogate import Surrogate
from aibench.search.triangular import FloatArray

INITIAL = resnet("resnet18", Shape(3, 16, 16), 10, width=8)
LIMIT = 4.0 * count(INITIAL).aiperf_ops.train


def morphism_search(*, max_morphs: int = 3, seed: int = 1) -> NetworkMorphismSearch:
    return NetworkMorphismSearch(
        Reach(initial=INITIAL, max_morphs=max_morphs, max_train_ops=LIMIT), seed=seed
    )


def networks(num_networks: int, *, num_morphs: int = 1, seed: int = 5) -> list[Architecture]:
    """Different networks."""
    rng = random.Random(seed)
    found: dict[str, Architecture] = {}
    while len(found) < num_networks:
        network = INITIAL
        for _ in range(num_morphs):
            network, _ = random_morph(network, rng)
        found[network.content_hash] = network
    return list(found.values())


def points(num_points: int, seed: int = 1) -> FloatArray:
    return np.random.default_rng(seed).normal(size=(num_points, NUM_FEATURES))


def cost(network: Architecture) -> float:
    return count(network).aiperf_ops.train / LIMIT


def test_children_of_networks_that_do_well_are_proposed() -> None:
    search = morphism_search()
    costs = []
    for _ in range(25):
        network = search.ask().architecture
        search.claimed(network)
        costs.append(cost(network))
        search.tell(network, 1.0 - costs[-1])  # the dearest networks are the best ones
    assert costs[0] == 0.25
    assert max(costs) > 0.95


@pytest.mark.parametrize("slopes", [(1.0, 0.0), (0.0, -1.0)])
def test_the_child_with_the_least_bound_is_proposed(
    monkeypatch: pytest.MonkeyPatch, slopes: tuple[float, float]
) -> None:
    """Of nine children, the first has the least mean or the last the most uncertainty."""
    seen: list[FloatArray] = []

    def predict(_: Surrogate, points: FloatArray) -> Prediction:
        seen.append(points)
        ranks = np.arange(len(points), dtype=float)
        return Prediction(slopes[0] * ranks, -slopes[1] * ranks)

    monkeypatch.setattr(Surrogate, "predict", predict)
    search = morphism_search(max_morphs=1)
    search.claimed(INITIAL)
    search.tell(INITIAL, 0.5)
    proposed = embed(search.ask().architecture)
    (children,) = seen
    assert len(children) == 9
    assert proposed.tolist() == children[0 if slopes[0] else -1].tolist()


@pytest.mark.parametrize(
    ("mean", "predicted"), [(math.log(0.26), 0.25), (-100.0, 0.0), (7.0, 1.0)]
)  # exp(mean) - 0.01, in 0..1
def test_the_lineage_holds_the_mean_prediction(
    monkeypatch: pytest.MonkeyPatch, mean: float, predicted: float
) -> None:
    def predict(_: Surrogate, points: FloatArray) -> Prediction:
        return Prediction(np.full(len(points), mean), np.ones(len(points)))

    monkeypatch.setattr(Surrogate, "predict", predict)
    search = morphism_search()
    assert search.ask().lineage.predicted_error is None
    search.claimed(INITIAL)
    assert search.ask().lineage.predicted_error is None
    search.tell(INITIAL, 0.5)
    assert search.ask().lineage.predicted_error == pytest.approx(predicted, abs=1e-15)


def test_sequences_grow_from_the_best_child_of_each_round(monkeypatch: pytest.MonkeyPatch) -> None:
    def predict(_: Surrogate, points: FloatArray) -> Prediction:
        return Prediction(-points.sum(axis=1), np.zeros(len(points)))  # the larger the better

    monkeypatch.setattr(Surrogate, "predict", predict)
    search = NetworkMorphismSearch(Reach(initial=INITIAL, max_morphs=3, max_train_ops=1e12), seed=1)
    search.claimed(INITIAL)
    search.tell(INITIAL, 0.5)
    for _ in range(10):
        proposal = search.ask()
        assert len(proposal.lineage.morphs) == 3
        search.claimed(proposal.architecture)


def test_more_networks_are_looked_at_as_the_history_grows(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at = []

    def embed_counted(network: Architecture) -> FloatArray:
        looked_at.append(network)
        return embed(network)

    monkeypatch.setattr(network_morphism, "embed", embed_counted)
    search = morphism_search()
    search.claimed(INITIAL)
    numbers = []
    for told, network in enumerate(networks(300, num_morphs=3), start=1):
        search.tell(network, 0.5)
        if told in (1, 90, 200, 300):
            looked_at.clear()
            search.ask()
            numbers.append(len(looked_at))
    assert numbers == [9, 9, 18, 24]


def test_only_the_best_networks_are_parents(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network_morphism, "FROM_SCRATCH_SHARE", 0.0)
    monkeypatch.setattr(network_morphism, "NUM_PARENTS", 2)
    search = morphism_search()
    search.claimed(INITIAL)
    told = networks(5)
    for network, error in zip(told, (0.9, 0.3, 0.8, 0.2, 0.7), strict=True):
        search.tell(network, error)
    parents = set()
    for _ in range(30):
        parents.add(search.ask().lineage.parent)
        search.claimed(INITIAL)
    assert parents == {told[1].content_hash, told[3].content_hash}


def test_networks_without_an_error_teach_nothing() -> None:
    search, untaught = morphism_search(), morphism_search()
    for network in networks(5):
        search.tell(network, None)
    for either in (search, untaught):
        either.claimed(INITIAL)
    assert search.ask() == untaught.ask()


def test_a_network_told_again_changes_nothing() -> None:
    search, again = morphism_search(), morphism_search()
    for either in (search, again):
        either.claimed(INITIAL)
        for network in networks(10):
            either.tell(network, 0.5)
    for network in networks(10):
        again.tell(network, 0.1)
    assert search.ask() == again.ask()


def test_networks_that_look_alike_and_do_equally_well_do_not_stop_the_search() -> None:
    search = morphism_search()
    twins = [apply(INITIAL, Deepen(place, "conv")) for place in (3, 10)]
    assert len({tuple(embed(twin)) for twin in twins}) == 1
    search.claimed(INITIAL)
    for twin in twins:
        search.tell(twin, 0.5)
    before = search.ask()
    assert before.architecture not in (INITIAL, *twins)
    for network in networks(20):
        search.tell(network, 0.5 * cost(network))
    assert search.ask() != before
