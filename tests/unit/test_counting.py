from __future__ import annotations

from collections import Counter

import pytest

from aibench.architecture import (
    OP_NAMES,
    Add,
    Architecture,
    BatchNorm,
    Concat,
    Conv,
    Dense,
    Dropout,
    Flatten,
    GlobalAvgPool,
    Input,
    MaxPool,
    Node,
    ReLU,
    Shape,
)
from aibench.architecture.resnet import resnet
from aibench.counting import RULES_VERSION, LayerCount, NetworkCount, Operations, count
from aibench.counting.layers import FORMULAS
from aibench.errors import ArchitectureError

IMAGE = Input(channels=3, height=8, width=6)
STEM = Conv(inputs=(0,), channels=4, kernel=3, padding=1)  # gives 4×8×6 = 192 elements, 48 positions


@pytest.fixture(scope="module")
def resnet50_v1() -> NetworkCount:
    return count(resnet("resnet50-v1", Shape(3, 224, 224), 1000))


@pytest.fixture(scope="module")
def resnet50() -> NetworkCount:
    return count(resnet("resnet50", Shape(3, 224, 224), 1000))


def layer(*nodes: Node) -> LayerCount:
    """Counts of the last of ``nodes``."""
    return count(Architecture(nodes)).layers[-1]


def test_the_initial_network_has_the_golden_score_operations(resnet50_v1: NetworkCount) -> None:
    assert resnet50_v1.aiperf_ops.forward == 7_806_583_495
    assert resnet50_v1.aiperf_ops.train == 23_053_458_315


def test_the_initial_network_has_the_golden_convolution_operations(resnet50_v1: NetworkCount) -> None:
    convs = [part.aiperf_ops for part in resnet50_v1.layers if part.op == "conv"]
    assert sum(ops.forward for ops in convs) == 7_711_850_496
    assert sum(ops.backward for ops in convs) == 15_234_582_912


def test_the_initial_network_has_the_golden_layers(resnet50_v1: NetworkCount) -> None:
    assert Counter(part.op for part in resnet50_v1.layers) == {
        "input": 1,
        "conv": 53,
        "batch_norm": 53,
        "relu": 49,
        "add": 16,
        "max_pool": 1,
        "global_avg_pool": 1,
        "dense": 1,
    }


def test_version_1_5_has_the_golden_tensor_flops(resnet50: NetworkCount) -> None:
    assert resnet50.tensor_flops.forward == 8_178_368_512
    assert resnet50.tensor_flops.train == 24_299_077_632
    assert resnet50.tensor_flops.backward / resnet50.tensor_flops.forward == pytest.approx(1.9711, abs=5e-5)


def test_the_rules_version_is_that_of_the_golden_numbers() -> None:
    assert RULES_VERSION == "aiperf-v1"


# 3×3 kernel, 3 → 4 channels: 9·3·4 = 108 weights at 48 positions.
def test_the_first_convolution_owes_no_input_gradient() -> None:
    part = layer(IMAGE, STEM)
    assert part.parameters == 108
    assert part.aiperf_ops == Operations(forward=10_368, backward=108 * (2 * 48 + 2))
    assert part.aiperf_ops.backward == 10_584
    assert part.tensor_flops == Operations(forward=10_368, backward=10_368)


# 9·4·2 = 72 weights at 4×3 = 12 positions: 2·12·72 and 72·(4·12 + 2).
def test_a_later_convolution_on_a_map_that_is_not_square() -> None:
    part = layer(IMAGE, STEM, Conv(inputs=(1,), channels=2, kernel=3, stride=2, padding=1))
    assert part.output_shape == Shape(2, 4, 3)
    assert part.parameters == 72
    assert part.aiperf_ops == Operations(forward=1_728, backward=3_600)
    assert part.tensor_flops == Operations(forward=1_728, backward=3_456)


# 9·(4/4)·8 = 72 weights at 48 positions: 2·48·72 and 72·(4·48 + 2).
def test_a_grouped_convolution_sees_only_its_own_channels() -> None:
    part = layer(IMAGE, STEM, Conv(inputs=(1,), channels=8, kernel=3, padding=1, groups=4))
    assert part.parameters == 72
    assert part.aiperf_ops == Operations(forward=6_912, backward=13_968)
    assert part.tensor_flops == Operations(forward=6_912, backward=13_824)


# 1·1·4·5 = 20 weights at 48 positions: 2·48·20 and 20·(4·48 + 2).
def test_the_bias_of_a_convolution_is_learned_but_not_counted() -> None:
    part = layer(IMAGE, STEM, Conv(inputs=(1,), channels=5, kernel=1, bias=True))
    assert part.parameters == 25
    assert part.aiperf_ops == Operations(forward=1_920, backward=3_880)
    assert part.tensor_flops == Operations(forward=1_920, backward=3_840)


# C = 4, M = 5: 2·4·5 + softmax 8·5 + 4 + 4·5; backward 4·4·5 + 2·5·5.
def test_a_dense_layer_with_its_softmax() -> None:
    part = layer(IMAGE, STEM, GlobalAvgPool(inputs=(1,)), Dense(inputs=(2,), features=5))
    assert part.parameters == 25
    assert part.aiperf_ops == Operations(forward=104, backward=130)
    assert part.tensor_flops == Operations(forward=40, backward=80)


def test_a_dense_layer_without_weights_before_it_owes_no_input_gradient() -> None:
    part = layer(IMAGE, Flatten(inputs=(0,)), Dense(inputs=(1,), features=2))
    assert part.tensor_flops == Operations(forward=576, backward=576)
    assert part.aiperf_ops.backward == 4 * 144 * 2 + 2 * 145 * 2


def test_batch_norm() -> None:
    part = layer(IMAGE, STEM, BatchNorm(inputs=(1,)))
    assert part.parameters == 8
    assert part.aiperf_ops == Operations(forward=1_344, backward=36)
    assert part.tensor_flops == Operations(forward=0, backward=0)


@pytest.mark.parametrize(
    ("node", "forward"),
    [
        (ReLU(inputs=(1,)), 192),
        (Add(inputs=(1, 1)), 192),
        (Add(inputs=(1, 1, 1)), 384),
        (MaxPool(inputs=(1,), kernel=3, stride=2, padding=1), 432),
        (GlobalAvgPool(inputs=(1,)), 204),
        (Concat(inputs=(1, 1)), 0),
        (Dropout(inputs=(1,), rate=0.5), 0),
        (Flatten(inputs=(1,)), 0),
    ],
    ids=lambda value: OP_NAMES.get(type(value), ""),
)
def test_layers_without_weights_count_forward_only(node: Node, forward: int) -> None:
    part = layer(IMAGE, STEM, node)
    assert part.parameters == 0
    assert part.aiperf_ops == Operations(forward=forward, backward=0)
    assert part.tensor_flops == Operations(forward=0, backward=0)


def test_a_max_pool_that_does_not_divide_is_rounded_down() -> None:
    part = layer(Input(channels=1, height=3, width=3), MaxPool(inputs=(0,), kernel=3, stride=2, padding=1))
    assert part.aiperf_ops.forward == 20  # 9·9/4 = 20.25


def test_the_image_costs_nothing() -> None:
    part = count(Architecture((IMAGE,))).layers[0]
    assert (part.parameters, part.aiperf_ops.train, part.tensor_flops.train) == (0, 0, 0)
    assert part.activation_bytes == 576


# The score calls the first convolution in node order "first"; the gradient asks what lies before a layer.
def test_a_convolution_behind_a_batch_norm_is_first_for_the_score_only() -> None:
    part = layer(IMAGE, BatchNorm(inputs=(0,)), Conv(inputs=(1,), channels=4, kernel=3, padding=1))
    assert part.aiperf_ops.backward == 10_584
    assert part.tensor_flops.backward == 20_736


def test_a_second_convolution_on_the_image_is_first_for_the_gradient_only() -> None:
    twin = layer(IMAGE, STEM, STEM, Add(inputs=(1, 2)))
    assert twin.op == "add"
    part = count(Architecture((IMAGE, STEM, STEM, Add(inputs=(1, 2))))).layers[2]
    assert part.aiperf_ops.backward == 108 * (4 * 48 + 2)
    assert part.tensor_flops.backward == 10_368


def test_a_network_is_the_sum_of_its_layers() -> None:
    counts = count(
        Architecture(
            (IMAGE, STEM, BatchNorm(inputs=(1,)), GlobalAvgPool(inputs=(2,)), Dense((3,), features=5))
        )
    )
    assert counts.parameters == 108 + 8 + 25
    assert counts.aiperf_ops == Operations(forward=10_368 + 1_344 + 204 + 104, backward=10_584 + 36 + 130)
    assert counts.tensor_flops == Operations(forward=10_368 + 40, backward=10_368 + 80)
    assert counts.activation_bytes == 4 * (144 + 192 + 192 + 4 + 5)
    assert [part.position for part in counts.layers] == [0, 1, 2, 3, 4]


def test_huge_networks_are_counted_exactly() -> None:
    counts = count(
        Architecture(
            (
                Input(channels=10**15, height=1, width=1),
                Conv(inputs=(0,), channels=10**15 + 1, kernel=1),
            )
        )
    )
    assert counts.parameters == 1_000_000_000_000_001_000_000_000_000_000
    assert counts.aiperf_ops.forward == 2_000_000_000_000_002_000_000_000_000_000
    assert counts.aiperf_ops.train == 6_000_000_000_000_006_000_000_000_000_000
    assert counts.tensor_flops.train == 4_000_000_000_000_004_000_000_000_000_000


def test_every_layer_kind_has_a_formula() -> None:
    assert {*FORMULAS, Conv} == set(OP_NAMES)


def test_a_layer_without_a_formula_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(FORMULAS, ReLU)
    with pytest.raises(ArchitectureError, match="no counting formula for ReLU"):
        count(Architecture((IMAGE, ReLU(inputs=(0,)))))
