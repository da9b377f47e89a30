from __future__ import annotations

import statistics
from typing import Any

import msgspec
import pytest

from aibench.api.events import Lineage
from aibench.api.space import Domain
from aibench.api.workload import HyperParameters
from aibench.architecture import (
    Architecture,
    BatchNorm,
    Concat,
    Conv,
    Dense,
    Flatten,
    GlobalAvgPool,
    Input,
    MaxPool,
    Node,
    ReLU,
    Shape,
)
from aibench.architecture.graph import ArchitectureDocument
from aibench.architecture.morphs import Deepen, Widen, apply
from aibench.architecture.resnet import resnet
from aibench.counting import count
from aibench.errors import ArchitectureError, ConfigError
from aibench.search import search as search_module
from aibench.search.config import SearchConfig
from aibench.search.pool import Admission
from aibench.search.search import Candidate, Search

INITIAL = resnet("resnet18", Shape(3, 16, 16), 10, width=8)
SPACE = {"learning_rate": Domain(low=0.01, high=1.0, log=True), "kernel": Domain(choices=(3, 5))}
LINEAGE = Lineage(origin="anything", parent="parent", morphs=("deepen@3:conv",))
IMAGE = INITIAL.nodes[0]


def specialise(architecture: Architecture, hyper_parameters: HyperParameters) -> Architecture:
    """Give every convolution of kernel 3 or 5 the drawn one."""
    if "kernel" not in hyper_parameters:
        return architecture
    kernel = hyper_parameters["kernel"]
    assert isinstance(kernel, int)
    return Architecture(
        tuple(
            msgspec.structs.replace(node, kernel=kernel, padding=kernel // 2)
            if isinstance(node, Conv) and node.kernel > 1
            else node
            for node in architecture.nodes
        )
    )


def kernels(architecture: Architecture) -> set[int]:
    return {node.kernel for node in architecture.nodes if isinstance(node, Conv) and node.kernel > 1}


def make_search(config: SearchConfig | None = None, *, seed: int = 1) -> Search:
    return Search(config or SearchConfig(), INITIAL, space=SPACE, specialise=specialise, seed=seed)


def run(search: Search, trials: range) -> list[Candidate]:
    candidates = []
    for trial in trials:
        candidates.append(search.ask(trial))
        search.tell(trial, 1.0 / (1 + trial))
    return candidates


def propose(search: Search, document: ArchitectureDocument) -> Admission:
    return search.propose(document, LINEAGE, bound=0.5, num_known=0)


def network(*nodes: Node) -> ArchitectureDocument:
    return ArchitectureDocument(nodes=nodes)


def test_the_first_candidate_is_the_initial_network_as_the_hyper_parameters_make_it() -> None:
    candidate = make_search().ask(1)
    assert candidate.lineage == Lineage(origin="initial")
    assert candidate.hyper_parameters.keys() == {"learning_rate", "kernel"}
    assert candidate.architecture == specialise(INITIAL, candidate.hyper_parameters)


def test_every_candidate_has_its_hyper_parameters_applied() -> None:
    candidates = run(make_search(), range(1, 31))
    assert all(kernels(c.architecture) == {c.hyper_parameters["kernel"]} for c in candidates)
    assert {c.hyper_parameters["kernel"] for c in candidates} == {3, 5}


@pytest.mark.parametrize("name", ["random", "evolution", "network_morphism"])
def test_architectures_are_searched_as_configured(name: Any) -> None:
    candidates = run(make_search(SearchConfig(architecture=name)), range(1, 6))
    assert [c.lineage.origin for c in candidates] == ["initial", name, name, name, name]


def test_parents_are_networks_that_were_trained() -> None:
    candidates = run(make_search(), range(1, 31))
    trained = {INITIAL.content_hash} | {c.architecture.content_hash for c in candidates}
    assert {c.lineage.parent for c in candidates[1:]} <= trained
    assert len({c.lineage.parent for c in candidates[1:]}) > 5


def test_children_of_a_network_still_in_training_name_it_as_it_is_trained() -> None:
    search = make_search()
    expensive = specialise(INITIAL, {"kernel": 5})
    search.restore(1, expensive, {"learning_rate": 0.1, "kernel": 5})
    assert {search.ask(trial).lineage.parent for trial in range(2, 12)} == {expensive.content_hash}


@pytest.mark.parametrize("name", ["random", "evolution", "network_morphism"])
def test_networks_that_differ_by_hyper_parameters_alone_are_not_trained_twice(name: Any) -> None:
    candidates = run(make_search(SearchConfig(architecture=name)), range(1, 61))
    assert len({specialise(c.architecture, {"kernel": 3}) for c in candidates}) == 60


def test_children_of_a_parent_with_expensive_hyper_parameters_have_room() -> None:
    search = make_search(SearchConfig(architecture="evolution", max_ops_ratio=1.5))
    parent = apply(INITIAL, Deepen(3, "conv"))
    expensive = specialise(parent, {"kernel": 5})
    assert count(expensive).aiperf_ops.train > 1.5 * count(INITIAL).aiperf_ops.train
    search.restore(1, expensive, {"learning_rate": 0.1, "kernel": 5})
    search.tell(1, 0.1)
    candidates = [search.ask(trial) for trial in range(2, 22)]
    parents = [c.lineage.parent for c in candidates]
    assert parents.count(expensive.content_hash) > 10
    assert set(parents) <= {expensive.content_hash, INITIAL.content_hash}
    for candidate in candidates:
        plain = specialise(candidate.architecture, {"kernel": 3})
        assert count(plain).aiperf_ops.train <= 1.5 * count(INITIAL).aiperf_ops.train


def test_without_architecture_search_only_the_hyper_parameters_change() -> None:
    candidates = run(make_search(SearchConfig(architecture="none")), range(1, 16))
    assert {c.lineage.origin for c in candidates} == {"initial"}
    assert {c.architecture for c in candidates} == {
        specialise(INITIAL, {"kernel": 3}),
        specialise(INITIAL, {"kernel": 5}),
    }
    assert len({c.hyper_parameters["learning_rate"] for c in candidates}) == 15


def test_equal_seeds_give_equal_runs() -> None:
    assert run(make_search(seed=4), range(20)) == run(make_search(seed=4), range(20))
    assert run(make_search(seed=4), range(20)) != run(make_search(seed=5), range(20))


@pytest.mark.parametrize("sampler", ["tpe", "random", "nsga_ii", "cma_es"])
@pytest.mark.parametrize("architecture", ["random", "evolution", "network_morphism"])
def test_a_resumed_search_goes_on_as_the_old_one_would_have(sampler: Any, architecture: Any) -> None:
    config = SearchConfig(hyper_parameters=sampler, architecture=architecture)
    whole, resumed = make_search(config), make_search(config)
    before = run(whole, range(1, 21))
    before += [whole.ask(21), whole.ask(22)]
    whole.tell(22, None)
    for trial, candidate in enumerate(before, start=1):
        resumed.restore(trial, candidate.architecture, candidate.hyper_parameters)
    for trial in range(1, 21):
        resumed.tell(trial, 1.0 / (1 + trial))
    resumed.tell(22, None)
    for search in (whole, resumed):  # trial 21 outlived the master
        search.tell(21, 0.01)
    assert run(resumed, range(23, 33)) == run(whole, range(23, 33))


def test_networks_of_earlier_trials_are_not_asked_for_again() -> None:
    tiny = Architecture(
        (
            Input(channels=1, height=1, width=1),
            Conv(inputs=(0,), channels=2, kernel=1),
            GlobalAvgPool(inputs=(1,)),
            Dense(inputs=(2,), features=10),
        )
    )
    search = Search(
        SearchConfig(max_morphs=1), tiny, space={}, specialise=lambda architecture, _: architecture, seed=1
    )
    only_child = apply(tiny, Widen(1))
    assert [search.ask(trial).architecture for trial in range(4)] == [tiny, only_child, tiny, tiny]


def test_a_resumed_search_does_not_start_again() -> None:
    first = make_search().ask(1)
    resumed = make_search()
    resumed.restore(1, first.architecture, first.hyper_parameters)
    second = resumed.ask(2)
    assert second.lineage.origin == "evolution"
    assert second.hyper_parameters["learning_rate"] != first.hyper_parameters["learning_rate"]


def test_a_trial_of_another_space_is_not_restored() -> None:
    with pytest.raises(ConfigError, match="trial 3 has no learning_rate: it was drawn from"):
        make_search().restore(3, INITIAL, {"kernel": 3})
    with pytest.raises(ConfigError, match="trial 3 has kernel 4: it was drawn from"):
        make_search().restore(3, INITIAL, {"learning_rate": 0.1, "kernel": 4})


def test_errors_are_told_once_and_checked() -> None:
    search = make_search()
    search.ask(1)
    with pytest.raises(ValueError, match="validation error nan"):
        search.tell(1, float("nan"))
    search.tell(1, 0.25)
    with pytest.raises(ValueError, match="trial 1: not running"):
        search.tell(1, 0.25)


def test_the_sampler_learns_accuracy_and_not_error() -> None:
    search = Search(
        SearchConfig(architecture="none"),
        INITIAL,
        space={"x": Domain(low=0.0, high=1.0)},
        specialise=lambda architecture, _: architecture,
        seed=2,
    )
    draws = []
    for trial in range(60):
        draws.append(search.ask(trial).hyper_parameters["x"])
        search.tell(trial, float(draws[-1]))
    assert statistics.median(float(x) for x in draws[40:]) < 0.1


def test_a_proposal_of_a_worker_comes_before_the_search_itself() -> None:
    search = make_search()
    proposed = apply(INITIAL, Deepen(3, "block"))
    assert propose(search, proposed.to_document()) == (True, "")
    assert search.num_waiting_proposals == 1
    candidate = search.ask(1)
    assert candidate.lineage == Lineage(origin="worker", parent="parent", morphs=("deepen@3:conv",))
    assert candidate.architecture == specialise(proposed, candidate.hyper_parameters)
    assert search.num_waiting_proposals == 0
    assert search.ask(2).lineage.origin == "evolution"


def test_a_proposal_waits_only_once() -> None:
    search = make_search()
    document = apply(INITIAL, Widen(1)).to_document()
    assert propose(search, document).accepted
    assert propose(search, document) == (False, "the same network waits in the pool already")


def test_a_network_that_a_trial_had_is_not_taken_again() -> None:
    search = make_search()
    trained = apply(INITIAL, Widen(1))
    search.restore(1, trained, {"learning_rate": 0.1, "kernel": 3})
    assert propose(search, trained.to_document()) == (
        False,
        "a trial has had the same network already",
    )


def test_the_pool_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search_module, "MAX_POOL_SIZE", 2)
    search = make_search()
    documents = [apply(INITIAL, Deepen(place, "conv")).to_document() for place in (3, 6, 10)]
    answers = [propose(search, document) for document in documents]
    assert answers == [(True, ""), (True, ""), (False, "2 better ones wait in the pool")]
    assert search.num_waiting_proposals == 2


def test_a_run_without_architecture_search_takes_no_proposals() -> None:
    search = make_search(SearchConfig(architecture="none"))
    document = apply(INITIAL, Widen(1)).to_document()
    assert propose(search, document) == (False, "this run searches no architectures")


DOUBLINGS = 16_000


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        (network(), "node 0 must be the input"),
        (network(IMAGE, ReLU(inputs=(7,))), "node 1 (relu): input 7 is not an earlier node"),
        (
            ArchitectureDocument(nodes=INITIAL.nodes, format="other/9"),
            "architecture format 'other/9': expected 'aibench-architecture/1'",
        ),
        (
            resnet("resnet18", Shape(1, 16, 16), 10, width=8).to_document(),
            "input shape 1×16×16: expected 3×16×16",
        ),
        (
            resnet("resnet18", Shape(3, 16, 16), 100, width=8).to_document(),
            "output shape 100×1×1: expected 10×1×1",
        ),
        (
            network(
                IMAGE,
                Concat(inputs=(0, 0, 0, 0)),
                MaxPool(inputs=(1,), kernel=16, stride=16),
                Concat(inputs=(2, 2)),
            ),
            "output shape 24×1×1: expected 10×1×1",
        ),
    ],
)
def test_an_unfit_proposal_is_refused_with_a_reason(document: ArchitectureDocument, reason: str) -> None:
    assert propose(make_search(), document) == (False, reason)


def test_a_proposal_without_weights_is_refused() -> None:
    initial = Architecture(
        (IMAGE, Conv(inputs=(0,), channels=3, kernel=1), GlobalAvgPool(inputs=(1,)), BatchNorm(inputs=(2,)))
    )
    search = Search(SearchConfig(), initial, space=SPACE, specialise=specialise, seed=1)
    refusal = propose(search, network(IMAGE, GlobalAvgPool(inputs=(0,))))
    assert refusal == (False, "0 parameters: expected a network that can be trained")


def test_a_proposal_that_costs_too_much_is_refused() -> None:
    wide = resnet("resnet18", Shape(3, 16, 16), 10, width=64)
    assert count(INITIAL).aiperf_ops.train == 13_712_341
    assert propose(make_search(), wide.to_document()) == (
        False,
        f"{count(wide).aiperf_ops.train} training operations per image: expected at most 54849364 "
        "(search.max_ops_ratio)",
    )


def test_the_limit_itself_is_allowed() -> None:
    child = apply(INITIAL, Widen(1))
    ratio = count(child).aiperf_ops.train / count(INITIAL).aiperf_ops.train
    for factor, accepted in ((1.0001, True), (0.9999, False)):
        search = make_search(SearchConfig(max_ops_ratio=ratio * factor))
        assert propose(search, child.to_document()).accepted is accepted


def test_a_proposal_too_large_to_print_is_refused() -> None:
    doublings = [Concat(inputs=(place, place)) for place in range(DOUBLINGS)]
    document = network(
        IMAGE,
        *doublings,
        Flatten(inputs=(DOUBLINGS,)),
        Dense(inputs=(DOUBLINGS + 1,), features=10),
    )
    refusal = propose(make_search(), document)
    assert not refusal.accepted
    assert "4300 digits" in refusal.reason


def test_a_proposal_that_cannot_be_specialised_gives_way_to_the_initial_network() -> None:
    proposed = apply(INITIAL, Widen(1))

    def refuse_proposed(architecture: Architecture, _: HyperParameters) -> Architecture:
        if architecture == proposed:
            raise ArchitectureError("kernel does not fit")
        return architecture

    search = Search(SearchConfig(), INITIAL, space=SPACE, specialise=refuse_proposed, seed=1)
    assert propose(search, proposed.to_document()).accepted
    candidate = search.ask(1)
    assert (candidate.architecture, candidate.lineage) == (INITIAL, Lineage(origin="initial"))


def test_a_proposal_need_not_descend_from_a_known_network() -> None:
    pooled = network(
        Input(channels=3, height=16, width=16),
        Conv(inputs=(0,), channels=5, kernel=3),
        GlobalAvgPool(inputs=(1,)),
        Dense(inputs=(2,), features=10),
    )
    assert propose(make_search(), pooled) == (True, "")


@pytest.mark.parametrize("algorithm", ["random", "evolution", "network_morphism"])
@pytest.mark.parametrize("draws_kernels", [True, False])
def test_kernels_are_enlarged_unless_a_hyper_parameter_sets_them_all(
    algorithm: str, draws_kernels: bool
) -> None:
    space = SPACE if draws_kernels else {"learning_rate": SPACE["learning_rate"]}
    config = msgspec.convert({"architecture": algorithm, "hyper_parameters": "random"}, SearchConfig)
    search = Search(config, INITIAL, space=space, specialise=specialise, seed=1)
    morphs = [morph for candidate in run(search, range(1, 21)) for morph in candidate.lineage.morphs]
    assert any(morph.startswith("kernel") for morph in morphs) != draws_kernels
    assert {morph.split("@")[0] for morph in morphs} >= {"deepen", "widen", "skip"}


def test_the_predicted_error_of_a_network_goes_with_it() -> None:
    candidates = run(make_search(SearchConfig(architecture="network_morphism")), range(1, 5))
    assert candidates[0].lineage.predicted_error is None
    for candidate in candidates[1:]:
        assert candidate.lineage.predicted_error is not None
        assert 0.0 < candidate.lineage.predicted_error < 1.0
    others: tuple[Any, ...] = ("random", "evolution")
    for name in others:
        for candidate in run(make_search(SearchConfig(architecture=name)), range(1, 5)):
            assert candidate.lineage.predicted_error is None
