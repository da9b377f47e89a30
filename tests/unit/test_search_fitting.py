"""Hyper-parameters conditional on the network, and the memory that training may take."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from aibench.api.events import Lineage
from aibench.api.space import Domain
from aibench.api.workload import HyperParameters
from aibench.architecture import Architecture, Conv, Dense, Flatten, GlobalAvgPool, Input, ReLU, Shape
from aibench.architecture.resnet import resnet
from aibench.counting import count
from aibench.errors import ArchitectureError, ConfigError
from aibench.search.config import SearchConfig
from aibench.search.fitting import MAX_DRAWS, Fitting
from aibench.search.memory import BYTES_PER_GIB, MemoryLimit
from aibench.search.search import Search

INITIAL = resnet("resnet18", Shape(3, 16, 16), 10, width=8)
SPACE = {
    "learning_rate": Domain(low=0.01, high=1.0, log=True),
    "batch": Domain(choices=(64, 32, 128)),
    "kernel": Domain(choices=(3, 5, 7)),
}
# Nothing in it looks around, so every kernel leads to this one network.
PERCEPTRON = Architecture(
    (
        Input(channels=3, height=16, width=16),
        Flatten(inputs=(0,)),
        Dense(inputs=(1,), features=4),
        ReLU(inputs=(2,)),
        Dense(inputs=(3,), features=10),
    )
)
# Refuses kernel 7.
TIGHT = Architecture(
    (
        Input(channels=3, height=16, width=16),
        Conv(inputs=(0,), channels=4, kernel=3, padding=1, stride=1),
        GlobalAvgPool(inputs=(1,)),
        Dense(inputs=(2,), features=10),
    )
)
LINEAGE = Lineage(origin="worker", parent="parent", morphs=())


def specialise(architecture: Architecture, hyper_parameters: HyperParameters) -> Architecture:
    kernel = hyper_parameters.get("kernel")
    if kernel is None:
        return architecture
    assert isinstance(kernel, int)
    if len(architecture.nodes) == len(TIGHT.nodes) and kernel > 5:
        raise ArchitectureError(f"kernel {kernel} does not fit")
    return Architecture(
        tuple(
            msgspec.structs.replace(node, kernel=kernel, padding=kernel // 2)
            if isinstance(node, Conv) and node.kernel > 1
            else node
            for node in architecture.nodes
        )
    )


def estimate(architecture: Architecture, hyper_parameters: HyperParameters) -> int:
    batch = hyper_parameters["batch"]
    assert isinstance(batch, int)
    return count(architecture).parameters * batch


def limit(num_bytes: float) -> MemoryLimit:
    return MemoryLimit(max_gib=num_bytes / BYTES_PER_GIB, estimate=estimate)


def make_search(memory: MemoryLimit | None = None, *, seed: int = 1, **config: Any) -> Search:
    return Search(
        SearchConfig(**config), INITIAL, space=SPACE, specialise=specialise, seed=seed, memory=memory
    )


def proposed(search: Search, network: Architecture, trial: int = 1) -> Any:
    assert search.propose(network.to_document(), LINEAGE, bound=0.5, num_known=0) == (True, "")
    return search.ask(trial)


def test_what_changes_nothing_in_a_network_is_not_drawn_for_it() -> None:
    candidate = proposed(make_search(), PERCEPTRON)
    assert candidate.architecture == PERCEPTRON
    assert candidate.hyper_parameters.keys() == {"learning_rate", "batch"}


def test_what_changes_the_network_is_drawn() -> None:
    search = make_search()
    assert all(search.ask(trial).hyper_parameters.keys() == SPACE.keys() for trial in range(1, 11))


def test_a_run_with_such_a_trial_is_resumed() -> None:
    whole, resumed = make_search(), make_search()
    first = proposed(whole, PERCEPTRON)
    second = whole.ask(2)
    resumed.restore(1, first.architecture, first.hyper_parameters)
    resumed.restore(2, second.architecture, second.hyper_parameters)
    for search in (whole, resumed):
        search.tell(1, 0.5)
        search.tell(2, 0.4)
    assert [resumed.ask(3), resumed.ask(4)] == [whole.ask(3), whole.ask(4)]


def test_a_draw_that_fits_no_network_is_drawn_again() -> None:
    tight = [proposed(make_search(seed=seed), TIGHT) for seed in range(20)]
    roomy = [make_search(seed=seed).ask(1) for seed in range(20)]
    assert {candidate.hyper_parameters["kernel"] for candidate in roomy} == {3, 5, 7}
    assert {candidate.hyper_parameters["kernel"] for candidate in tight} == {3, 5}
    assert {candidate.lineage.origin for candidate in tight} == {"worker"}
    for one, other in zip(tight, roomy, strict=True):
        if other.hyper_parameters["kernel"] != 7:
            assert one.hyper_parameters == other.hyper_parameters


def test_after_several_draws_the_neutral_and_frugal_values_are_taken() -> None:
    fitting = Fitting(
        INITIAL, space=SPACE, specialise=specialise, memory=limit(estimate(INITIAL, {"batch": 32}))
    )
    greedy: HyperParameters = {"learning_rate": 0.5, "batch": 128, "kernel": 5}
    draws = iter([greedy] * MAX_DRAWS + [{}])
    assert fitting.fitted(INITIAL, draws) == (INITIAL, {"learning_rate": 0.5, "batch": 32, "kernel": 3})
    assert next(draws) == {}


def test_a_network_too_large_even_for_the_smallest_batch_gets_no_hyper_parameters() -> None:
    large = resnet("resnet18", Shape(3, 16, 16), 10, width=16)
    fitting = Fitting(
        INITIAL, space=SPACE, specialise=specialise, memory=limit(estimate(INITIAL, {"batch": 32}))
    )
    assert fitting.fitted(large, iter([{"learning_rate": 0.5, "batch": 32, "kernel": 3}] * 9)) is None


@pytest.mark.parametrize("name", ["random", "evolution", "network_morphism"])
def test_no_candidate_takes_more_memory_than_allowed(name: Any) -> None:
    memory = limit(1.5 * estimate(INITIAL, {"batch": 32}))
    search = make_search(memory, architecture=name)
    candidates = []
    for trial in range(1, 31):
        candidates.append(search.ask(trial))
        search.tell(trial, 1.0 / (1 + trial))
    assert all(memory.allows(c.architecture, c.hyper_parameters) for c in candidates)
    assert {c.lineage.origin for c in candidates} == {"initial", name}
    # Without the limit, the same run goes beyond it.
    free = make_search(architecture=name)
    unbounded = [free.ask(trial) for trial in range(1, 31)]
    assert not all(memory.allows(c.architecture, c.hyper_parameters) for c in unbounded)


def test_a_proposal_over_the_memory_limit_is_refused_with_the_reason() -> None:
    search = make_search(limit(1.5 * estimate(INITIAL, {"batch": 32})))
    wide = resnet("resnet18", Shape(3, 16, 16), 10, width=12)
    needed = 32 * count(wide).parameters / BYTES_PER_GIB
    allowed = 1.5 * 32 * count(INITIAL).parameters / BYTES_PER_GIB
    assert search.propose(wide.to_document(), LINEAGE, bound=0.5, num_known=0) == (
        False,
        f"needs an estimated {needed:.3g} GiB per rank for training, expected at most {allowed:g} GiB "
        "(with batch 32) (search.max_memory_gib)",
    )


def test_an_initial_network_over_the_limit_is_refused() -> None:
    memory = MemoryLimit(max_gib=2.0, estimate=lambda _, values: 2**31 * int(values["batch"]))
    with pytest.raises(ConfigError) as refused:
        make_search(memory)
    assert str(refused.value) == (
        "search.max_memory_gib: the initial network needs an estimated 64 GiB per rank for training, "
        "expected at most 2 GiB (with batch 32); raise the limit, offer a smaller search.space.batch or use "
        "more ranks"
    )


def test_first_points_go_to_the_first_trials_where_they_fit() -> None:
    search = make_search(first_points=({"kernel": 5, "batch": 128}, {"learning_rate": 1}))
    first, second = search.ask(1), search.ask(2)
    assert (first.hyper_parameters["kernel"], first.hyper_parameters["batch"]) == (5, 128)
    assert first.architecture == specialise(INITIAL, {"kernel": 5})
    assert second.hyper_parameters["learning_rate"] == 1.0
    assert type(second.hyper_parameters["learning_rate"]) is float


def test_a_first_point_that_does_not_fit_a_network_gives_way() -> None:
    candidate = proposed(make_search(first_points=({"kernel": 7},)), TIGHT)
    assert candidate.lineage.origin == "worker"
    assert candidate.hyper_parameters["kernel"] in (3, 5)


def test_a_trial_that_runs_already_leaves_the_waiting_proposals_alone() -> None:
    search = make_search()
    search.ask(1)
    assert search.propose(PERCEPTRON.to_document(), LINEAGE, bound=0.5, num_known=0).accepted
    with pytest.raises(ValueError, match="trial 1: is running already"):
        search.ask(1)
    assert search.num_waiting_proposals == 1
