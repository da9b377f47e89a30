"""How many networks a proposal is the best of, and what its search hopes for."""

from __future__ import annotations

import math

import numpy as np
import pytest

from aibench.architecture import Shape
from aibench.architecture.resnet import resnet
from aibench.search.evolution import EvolutionarySearch
from aibench.search.gaussian_process import Prediction
from aibench.search.mutator import Reach
from aibench.search.network_morphism import NetworkMorphismSearch
from aibench.search.surrogate import Surrogate
from aibench.search.triangular import FloatArray

INITIAL = resnet("resnet18", Shape(3, 16, 16), 10, width=8)


def informed(num_candidates: int | None = None, *, max_morphs: int = 1) -> NetworkMorphismSearch:
    search = NetworkMorphismSearch(
        Reach(initial=INITIAL, max_morphs=max_morphs, max_train_ops=math.inf),
        seed=1,
        num_candidates=num_candidates,
    )
    search.claimed(INITIAL)
    search.tell(INITIAL, 0.5)
    return search


@pytest.mark.parametrize(
    ("num_candidates", "max_morphs", "expected"),
    [(None, 1, [9]), (None, 3, [3, 3, 3]), (60, 1, [60]), (60, 3, [20, 20, 20])],
)
def test_a_proposal_is_the_best_of_as_many_networks_as_asked_for(
    monkeypatch: pytest.MonkeyPatch, num_candidates: int | None, max_morphs: int, expected: list[int]
) -> None:
    seen: list[int] = []

    def predict(_: Surrogate, points: FloatArray) -> Prediction:
        seen.append(len(points))
        return Prediction(np.zeros(len(points)), np.zeros(len(points)))

    monkeypatch.setattr(Surrogate, "predict", predict)
    informed(num_candidates, max_morphs=max_morphs).ask()
    # Morphs that fit nowhere or repeat a network leave fewer.
    assert len(seen) == len(expected)
    assert all(0.5 * most <= found <= most for found, most in zip(seen, expected, strict=True))


def test_the_hoped_error_is_the_lower_bound_at_one_weight_for_all_proposals(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def predict(_: Surrogate, points: FloatArray) -> Prediction:
        return Prediction(np.full(len(points), math.log(0.31)), np.full(len(points), math.log(2.0)))

    monkeypatch.setattr(Surrogate, "predict", predict)
    search = informed()
    hopes = []
    for _ in range(3):  # each draws its own weight for the choice among its candidates
        proposal = search.ask()
        hopes.append(proposal.bound)
        search.claimed(proposal.architecture)
    # ln(error + 0.01) is expected at ln 0.31 and hoped to be two deviations of ln 2 lower: 0.31 / 4 - 0.01.
    assert hopes == pytest.approx([0.0675] * 3)


def test_a_search_that_ranks_nothing_hopes_for_nothing() -> None:
    search = EvolutionarySearch(Reach(initial=INITIAL, max_morphs=1, max_train_ops=math.inf), seed=1)
    search.claimed(INITIAL)
    search.tell(INITIAL, 0.25)
    assert search.ask().bound == 1.0
