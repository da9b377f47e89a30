from __future__ import annotations

import itertools
import math
import statistics
from typing import Any

import msgspec
import pytest

from aibench.api.events import Lineage
from aibench.api.workload import HyperParameters
from aibench.architecture import (
    Add,
    Architecture,
    BatchNorm,
    Conv,
    Dense,
    Dropout,
    GlobalAvgPool,
    Input,
    ReLU,
    Shape,
)
from aibench.architecture.morphs import Deepen, Morph, Skip, Widen, applicable, apply
from aibench.architecture.resnet import resnet
from aibench.counting import count
from aibench.search.evaluator import TrialWork
from aibench.search.landscape import Features, SurrogateLandscape
from aibench.search.search import Candidate

INITIAL = resnet("resnet18", Shape(3, 16, 16), 10, width=8)
WORK = TrialWork(train_images=100, validation_images=20, epochs=3)
LANDSCAPE = SurrogateLandscape(INITIAL, WORK)


def candidate(architecture: Architecture = INITIAL, **hyper_parameters: float | str) -> Candidate:
    drawn: HyperParameters = dict(hyper_parameters)
    return Candidate(architecture=architecture, lineage=Lineage(origin="initial"), hyper_parameters=drawn)


def expected(architecture: Architecture = INITIAL, **hyper_parameters: float | str) -> float:
    return LANDSCAPE.expected_error(candidate(architecture, **hyper_parameters))


def morphed(architecture: Architecture, kind: type[Any], **wanted: Any) -> Architecture:
    """The last morph of this kind: the one nearest to the output."""
    fitting: list[Morph] = [
        morph
        for morph in applicable(architecture)
        if isinstance(morph, kind) and all(getattr(morph, key) == value for key, value in wanted.items())
    ]
    return apply(architecture, fitting[-1])


def repeated(times: int, layers: str) -> Architecture:
    architecture = INITIAL
    for _ in range(times):
        architecture = morphed(architecture, Deepen, layers=layers)
    return architecture


def with_kernel(kernel: int) -> Architecture:
    return Architecture(
        tuple(
            msgspec.structs.replace(node, kernel=kernel, padding=kernel // 2)
            if isinstance(node, Conv) and node.kernel > 1
            else node
            for node in INITIAL.nodes
        )
    )


def log_odds(error: float) -> float:
    share = (error - 0.02) / (0.9 - 0.02)
    return math.log(share / (1 - share))


def test_features_of_a_small_network() -> None:
    network = Architecture(
        (
            Input(channels=3, height=8, width=8),
            Conv(inputs=(0,), channels=8, kernel=3, padding=1),
            ReLU(inputs=(1,)),
            Conv(inputs=(2,), channels=8, kernel=5, padding=2),
            Conv(inputs=(3,), channels=8, kernel=1),
            Add(inputs=(4, 2)),
            GlobalAvgPool(inputs=(5,)),
            Dropout(inputs=(6,), rate=0.25),
            Dense(inputs=(7,), features=10),
        )
    )
    counts = count(network)
    assert Features.of(network, counts) == Features(
        log_ops=math.log2(counts.aiperf_ops.train),
        log_parameters=math.log2(3 * 3 * 3 * 8 + 5 * 5 * 8 * 8 + 8 * 8 + 8 * 10 + 10),
        depth=4,
        shortest_path=2,
        log_width=3.0,
        kernel=4.0,
        num_joins=1,
        dropout=0.25,
    )


def test_initial_network_at_its_best_has_the_error_of_the_formula() -> None:
    # 0.02 + (0.9 - 0.02) · 1 / (1 + e^1.75)
    assert expected(learning_rate=0.05, batch_size=64) == pytest.approx(0.15028, abs=1e-5)
    assert expected() == expected(learning_rate=0.05, batch_size=64)


def test_operations_are_those_of_the_whole_trial() -> None:
    operations = count(INITIAL).aiperf_ops
    evaluation = LANDSCAPE.evaluate(candidate(), seed=1)
    assert evaluation.ops == 3 * (100 * operations.train + 20 * operations.forward)


@pytest.mark.parametrize("kind", [Widen, Skip])
def test_width_and_shortcuts_help(kind: type[Any]) -> None:
    assert expected(morphed(INITIAL, kind)) < expected()


def test_residual_depth_helps_with_diminishing_returns() -> None:
    errors = [expected(repeated(times, "block")) for times in (0, 1, 2, 3)]
    gains = [before - after for before, after in itertools.pairwise(errors)]
    assert gains == sorted(gains, reverse=True)
    assert gains[-1] > 0


def test_larger_kernels_help() -> None:
    assert expected(with_kernel(5)) < expected(with_kernel(3)) < expected(with_kernel(1))


def test_depth_without_shortcuts_ends_up_harmful() -> None:
    plain, residual = repeated(16, "conv"), repeated(8, "block")
    assert expected(plain) > expected() > expected(residual)


def test_learning_rate_is_best_at_its_optimum_and_worse_above_than_below() -> None:
    best, below, above = (expected(learning_rate=rate, batch_size=64) for rate in (0.05, 0.025, 0.1))
    assert best < below < above


def test_best_learning_rate_grows_with_the_batch_and_falls_with_depth() -> None:
    assert expected(learning_rate=0.1, batch_size=256) < expected(learning_rate=0.05, batch_size=256)
    deep = resnet("resnet152", Shape(3, 16, 16), 10, width=8)
    assert expected(deep, learning_rate=0.02) < expected(deep, learning_rate=0.05)


def test_larger_batches_are_a_little_worse_at_their_best() -> None:
    assert expected(batch_size=64) < expected(batch_size=128) < expected(batch_size=256)


def test_dropout_is_best_in_the_middle() -> None:
    def dropped(rate: float) -> float:
        *nodes, dense = INITIAL.nodes
        nodes.append(Dropout(inputs=dense.inputs, rate=rate))
        nodes.append(msgspec.structs.replace(dense, inputs=(len(nodes) - 1,)))
        return expected(Architecture(tuple(nodes)), dropout=rate)

    assert dropped(0.1) < dropped(0.0)
    assert dropped(0.1) < dropped(0.3) < dropped(0.5)


def test_unknown_hyper_parameters_change_nothing() -> None:
    assert expected(momentum=0.5, optimiser="sgd") == expected()


@pytest.mark.parametrize("rate", [0.0, 1e-300, 1e300])
def test_error_stays_between_floor_and_chance(rate: float) -> None:
    tiny = Architecture(
        (
            Input(channels=3, height=16, width=16),
            Conv(inputs=(0,), channels=1, kernel=1),
            BatchNorm(inputs=(1,)),
            GlobalAvgPool(inputs=(2,)),
            Dense(inputs=(3,), features=10),
        )
    )
    for network in (INITIAL, tiny):
        error = LANDSCAPE.evaluate(candidate(network, learning_rate=rate), seed=1).error
        assert error is not None
        assert 0.02 <= error <= 0.9


def test_error_is_the_same_for_the_same_seed_and_scatters_around_the_expectation() -> None:
    evaluations = [LANDSCAPE.evaluate(candidate(learning_rate=0.05), seed) for seed in range(400)]
    assert evaluations == [
        SurrogateLandscape(INITIAL, WORK).evaluate(candidate(learning_rate=0.05), s) for s in range(400)
    ]
    errors = [evaluation.error for evaluation in evaluations if evaluation.error is not None]
    assert len(set(errors)) == 400
    assert statistics.fmean(errors) == pytest.approx(expected(learning_rate=0.05), abs=0.002)


def test_badly_trained_networks_scatter_more() -> None:
    def spread(rate: float) -> float:
        errors = [LANDSCAPE.evaluate(candidate(learning_rate=rate), seed).error for seed in range(400)]
        return statistics.stdev(log_odds(error) for error in errors if error is not None)

    assert spread(0.05) == pytest.approx(0.04, rel=0.15)
    assert spread(0.3) == pytest.approx(0.14, rel=0.15)
