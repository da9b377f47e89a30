from __future__ import annotations

import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.networks import IMAGE, INCEPTION, PLAIN, RESNETS, TWO_WIDTHS, UNMORPHABLE, network, words

from aibench.architecture import (
    Add,
    Architecture,
    BatchNorm,
    Concat,
    Conv,
    Dense,
    Flatten,
    GlobalAvgPool,
    Input,
    ReLU,
    Shape,
)
from aibench.architecture.morphs import (
    Deepen,
    EnlargeKernel,
    Morph,
    Skip,
    Widen,
    applicable,
    apply,
    parse_morph,
    random_morph,
)
from aibench.counting import count
from aibench.errors import ArchitectureError


@pytest.mark.parametrize(
    ("morph", "text"),
    [
        (Deepen(12, "conv"), "deepen@12:conv"),
        (Deepen(12, "block"), "deepen@12:block"),
        (Widen(7), "widen@7:x2"),
        (Skip(5, 19, "add"), "skip@5-19:add"),
        (Skip(5, 19, "concat"), "skip@5-19:concat"),
        (EnlargeKernel(7, 5), "kernel@7:5"),
    ],
)
def test_a_morph_reads_as_kind_place_and_amount_and_back(morph: Morph, text: str) -> None:
    assert str(morph) == text
    assert parse_morph(text) == morph


@pytest.mark.parametrize(
    "text",
    [
        "",
        "deepen",
        "deepen@3",
        "deepen@3:stack",
        "deepen@-3:conv",
        "deepen@3:conv ",
        "widen@7:x3",
        "widen@" + "9" * 5000 + ":x2",
        "skip@5-19",
        "skip@5-19:multiply",
        "kernel@7",
        "kernel@7:5x5",
    ],
)
def test_what_is_no_morph_is_refused(text: str) -> None:
    with pytest.raises(ArchitectureError) as refusal:
        parse_morph(text)
    assert str(refusal.value) == (
        f"morph {text[:60]!r}: expected such as deepen@3:conv, widen@7:x2, skip@3-9:add or kernel@7:5"
    )


def test_deepening_by_a_convolution_keeps_channels_and_rewires_the_readers() -> None:
    assert apply(PLAIN, Deepen(3, "conv")).nodes == (
        *PLAIN.nodes[:4],
        Conv(inputs=(3,), channels=4, kernel=3, padding=1),
        BatchNorm(inputs=(4,)),
        ReLU(inputs=(5,)),
        GlobalAvgPool(inputs=(6,)),
        Dense(inputs=(7,), features=10),
    )


def test_deepening_by_a_block_adds_a_residual_path_around_the_relu() -> None:
    assert apply(PLAIN, Deepen(3, "block")).nodes == (
        *PLAIN.nodes[:4],
        Conv(inputs=(3,), channels=4, kernel=3, padding=1),
        BatchNorm(inputs=(4,)),
        ReLU(inputs=(5,)),
        Conv(inputs=(6,), channels=4, kernel=3, padding=1),
        BatchNorm(inputs=(7,)),
        Add(inputs=(8, 3)),
        ReLU(inputs=(9,)),
        GlobalAvgPool(inputs=(10,)),
        Dense(inputs=(11,), features=10),
    )


def test_deepening_keeps_readers_that_bypass_the_place() -> None:
    deeper = apply(network("resnet18@32"), Deepen(3, "conv"))
    assert deeper.nodes[7].inputs == (6,)  # the block's first convolution reads the new ReLU
    assert deeper.nodes[12].inputs == (11, 6)  # and so does its shortcut


def test_widening_doubles_the_group_and_nothing_else() -> None:
    assert apply(PLAIN, Widen(1)).nodes == (
        IMAGE,
        Conv(inputs=(0,), channels=8, kernel=3, padding=1),
        *PLAIN.nodes[2:],
    )


def test_widening_a_residual_stream_widens_every_layer_its_sums_join() -> None:
    narrow = network("resnet18@32")
    wide = apply(narrow, Widen(1))
    changed = {
        i: new for i, (old, new) in enumerate(zip(narrow.nodes, wide.nodes, strict=True)) if old != new
    }
    assert sorted(changed) == [1, 7, 14]
    assert {wide.shapes[place].channels for place in changed} == {128}
    assert wide.shapes[17] == Shape(128, 32, 32)


def test_widening_passes_max_pool_dropout_and_flatten_up_to_the_next_weights() -> None:
    wide = apply(INCEPTION, Widen(10))
    assert wide.shapes[14] == Shape(2 * 8 * 6 * 5, 1, 1)
    assert wide.nodes[15] == INCEPTION.nodes[15]


def test_a_sum_behind_a_flatten_widens_with_the_map_before_it() -> None:
    joined = Architecture(
        (
            Input(channels=3, height=2, width=2),
            Conv(inputs=(0,), channels=2, kernel=1),
            Flatten(inputs=(1,)),
            Dense(inputs=(2,), features=8),
            Add(inputs=(3, 2)),
            Dense(inputs=(4,), features=10),
        )
    )
    assert words(joined) == ["widen@1:x2"]
    assert apply(joined, Widen(1)).shapes[1:5] == (Shape(4, 2, 2), *[Shape(16, 1, 1)] * 3)


def test_a_hidden_dense_layer_widens_but_the_output_does_not() -> None:
    assert apply(INCEPTION, Widen(15)).shapes[15:] == (
        Shape(32, 1, 1),
        Shape(32, 1, 1),
        Shape(32, 1, 1),
        Shape(7, 1, 1),
    )
    assert Widen(18) not in applicable(INCEPTION)


def test_a_skip_between_equal_channels_is_a_batch_norm_and_a_sum() -> None:
    assert apply(TWO_WIDTHS, Skip(2, 4, "add")).nodes == (
        *TWO_WIDTHS.nodes[:5],
        BatchNorm(inputs=(2,)),
        Add(inputs=(4, 5)),
        Conv(inputs=(6,), channels=6, kernel=3, padding=1),
        ReLU(inputs=(7,)),
        GlobalAvgPool(inputs=(8,)),
        Dense(inputs=(9,), features=10),
    )


def test_a_skip_between_unequal_channels_is_projected() -> None:
    assert apply(TWO_WIDTHS, Skip(2, 6, "add")).nodes == (
        *TWO_WIDTHS.nodes[:7],
        Conv(inputs=(2,), channels=6, kernel=1),
        BatchNorm(inputs=(7,)),
        Add(inputs=(6, 8)),
        GlobalAvgPool(inputs=(9,)),
        Dense(inputs=(10,), features=10),
    )


def test_a_skip_by_concat_leads_back_to_the_channels_of_its_target() -> None:
    assert apply(TWO_WIDTHS, Skip(2, 6, "concat")).nodes == (
        *TWO_WIDTHS.nodes[:7],
        Concat(inputs=(6, 2)),
        Conv(inputs=(7,), channels=6, kernel=1),
        BatchNorm(inputs=(8,)),
        ReLU(inputs=(9,)),
        GlobalAvgPool(inputs=(10,)),
        Dense(inputs=(11,), features=10),
    )


def test_an_enlarged_window_keeps_all_shapes() -> None:
    enlarged = apply(TWO_WIDTHS, EnlargeKernel(3, 5))
    assert enlarged.nodes == (
        *TWO_WIDTHS.nodes[:3],
        Conv(inputs=(2,), channels=4, kernel=5, padding=2),
        *TWO_WIDTHS.nodes[4:],
    )
    assert enlarged.shapes == TWO_WIDTHS.shapes


def test_all_morphs_of_a_small_network_are_listed() -> None:
    assert words(TWO_WIDTHS) == [
        "deepen@2:conv",
        "deepen@2:block",
        "deepen@4:conv",
        "deepen@4:block",
        "deepen@6:conv",
        "deepen@6:block",
        "widen@1:x2",
        "widen@3:x2",
        "widen@5:x2",
        "skip@2-4:add",
        "skip@2-4:concat",
        "skip@2-6:add",
        "skip@2-6:concat",
        "skip@4-6:add",
        "skip@4-6:concat",
        "kernel@1:5",
        "kernel@3:5",
        "kernel@5:5",
    ]


def test_kinds_that_are_left_out_are_neither_listed_nor_drawn() -> None:
    assert words(TWO_WIDTHS, kinds={Widen, EnlargeKernel}) == [
        *("widen@1:x2", "widen@3:x2", "widen@5:x2"),
        *("kernel@1:5", "kernel@3:5", "kernel@5:5"),
    ]
    rng = random.Random(1)
    drawn = {type(random_morph(TWO_WIDTHS, rng, kinds=(Deepen, Skip))[1]) for _ in range(50)}
    assert drawn == {Deepen, Skip}
    with pytest.raises(ArchitectureError, match="no morph applies"):
        random_morph(TWO_WIDTHS, rng, kinds=())


@pytest.mark.parametrize(
    "morph",
    [
        *(Deepen(2, "conv"), Deepen(99, "block"), Widen(2), Widen(5), Skip(3, 3, "add")),
        *(Skip(3, 3, "concat"), EnlargeKernel(0, 5), EnlargeKernel(1, 3), EnlargeKernel(1, 7)),
    ],
)
def test_a_morph_at_another_place_is_refused(morph: Morph) -> None:
    with pytest.raises(ArchitectureError, match=re.escape(f"morph {morph}: does not apply to this network")):
        apply(PLAIN, morph)


def test_a_network_without_any_place_is_refused() -> None:
    assert applicable(UNMORPHABLE) == []
    with pytest.raises(ArchitectureError, match="no morph applies"):
        random_morph(UNMORPHABLE, random.Random(0))


def test_random_morphs_depend_on_the_generator_alone() -> None:
    draws = [random_morph(network("resnet50@224"), random.Random(seed)) for seed in (5, 5, 6)]
    assert draws[0] == draws[1]
    assert draws[0] != draws[2]


def test_random_morphs_reach_every_place_of_a_small_network() -> None:
    rng = random.Random(1)
    drawn = {str(random_morph(TWO_WIDTHS, rng)[1]) for _ in range(300)}
    assert drawn == set(words(TWO_WIDTHS))


@pytest.mark.parametrize("name", [*RESNETS, "inception", "grouped", "plain", "two widths"])
def test_every_listed_morph_gives_a_larger_network_of_the_same_ends(name: str) -> None:
    parent = network(name)
    morphs = applicable(parent)
    for morph in random.Random(name).sample(morphs, k=min(12, len(morphs))):
        child = apply(parent, morph)
        assert child.input_shape == parent.input_shape
        assert child.output_shape == parent.output_shape
        assert count(child).parameters > count(parent).parameters
        assert child.content_hash != parent.content_hash


@settings(derandomize=True, deadline=None, max_examples=150)
@given(
    name=st.sampled_from([*RESNETS, "inception", "grouped", "plain", "two widths"]),
    seed=st.integers(min_value=0, max_value=2**32),
    num_morphs=st.integers(min_value=1, max_value=8),
)
def test_any_chain_of_random_morphs_is_a_network_that_can_be_counted(
    name: str, seed: int, num_morphs: int
) -> None:
    rng = random.Random(seed)
    parent = child = network(name)
    for _ in range(num_morphs):
        before = child
        child, morph = random_morph(before, rng)
        assert apply(before, morph) == child
    assert (child.input_shape, child.output_shape) == (parent.input_shape, parent.output_shape)
    assert count(child).aiperf_ops.train > count(parent).aiperf_ops.train
    assert Architecture.from_json(child.to_json()) == child
