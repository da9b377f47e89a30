from __future__ import annotations

import msgspec
import pytest
from support.networks import GROUPED, IMAGE, PLAIN, TWO_WIDTHS

from aibench.architecture import (
    Architecture,
    Concat,
    Conv,
    Dense,
    Dropout,
    Flatten,
    GlobalAvgPool,
    Input,
    MaxPool,
)
from aibench.architecture.inheritance import Continued, Fresh, Plan, Start, plan_morph, plan_realigned
from aibench.architecture.morphs import Deepen, EnlargeKernel, Morph, Skip, Widen, apply
from aibench.errors import ArchitectureError

CONCAT = Architecture(
    (
        IMAGE,
        Conv(inputs=(0,), channels=2, kernel=1),
        Conv(inputs=(0,), channels=3, kernel=1),
        Concat(inputs=(2, 1)),
        Conv(inputs=(3,), channels=4, kernel=1),
        GlobalAvgPool(inputs=(4,)),
        Dense(inputs=(5,), features=10),
    )
)

FLATTENED = Architecture(
    (
        Input(channels=1, height=2, width=4),
        Conv(inputs=(0,), channels=2, kernel=1),
        MaxPool(inputs=(1,), kernel=2, stride=2),
        Flatten(inputs=(2,)),
        Dense(inputs=(3,), features=10),
    )
)


def in_short(plan: Plan) -> list[int | Fresh]:
    return [start.node if isinstance(start, Continued) else start for start in plan]


def continued(start: Start) -> Continued:
    assert isinstance(start, Continued)
    return start


def input_channels(start: Start) -> list[int]:
    return [share.channel for share in continued(start).inputs]


def fractions(start: Start) -> list[float]:
    return [share.fraction for share in continued(start).inputs]


D, I, Z = Fresh.DRAWN, Fresh.IDENTITY, Fresh.ZERO  # noqa: E741


@pytest.mark.parametrize(
    ("parent", "morph", "starts"),
    [
        (PLAIN, Deepen(3, "conv"), [0, 1, 2, 3, I, I, D, 4, 5]),
        (PLAIN, Deepen(3, "block"), [0, 1, 2, 3, D, D, D, D, Z, D, D, 4, 5]),
        (TWO_WIDTHS, Skip(2, 4, "add"), [0, 1, 2, 3, 4, Z, D, 5, 6, 7, 8]),
        (TWO_WIDTHS, Skip(2, 6, "add"), [0, 1, 2, 3, 4, 5, 6, D, Z, D, 7, 8]),
        (TWO_WIDTHS, Skip(2, 6, "concat"), [0, 1, 2, 3, 4, 5, 6, D, I, I, D, 7, 8]),
        (TWO_WIDTHS, EnlargeKernel(3, 5), [0, 1, 2, 3, 4, 5, 6, 7, 8]),
        (TWO_WIDTHS, Widen(3), [0, 1, 2, 3, 4, 5, 6, 7, 8]),
    ],
)
def test_what_a_morph_inserts_starts_anew_and_the_rest_goes_on(
    parent: Architecture, morph: Morph, starts: list[int | Fresh]
) -> None:
    child, plan = plan_morph(parent, morph, seed=1)
    assert child == apply(parent, morph)
    assert in_short(plan) == starts


@pytest.mark.parametrize("morph", [Deepen(4, "block"), Skip(2, 6, "concat"), EnlargeKernel(3, 5)])
def test_without_widening_all_channels_stay_where_they_are(morph: Morph) -> None:
    _, plan = plan_morph(TWO_WIDTHS, morph, seed=1)
    for start in plan:
        if isinstance(start, Continued):
            node, shape = TWO_WIDTHS.nodes[start.node], TWO_WIDTHS.shapes[start.node]
            assert start.channels == tuple(range(shape.channels))
            if isinstance(node, Conv | Dense):
                channels = TWO_WIDTHS.input_shapes(start.node)[0].channels
                assert input_channels(start) == list(range(channels))
                assert set(fractions(start)) == {1.0}
            else:
                assert start.inputs == ()


def test_widening_copies_the_group_and_splits_what_reads_it() -> None:
    _, plan = plan_morph(PLAIN, Widen(1), seed=1)
    copies = (0, 1, 2, 3, 0, 1, 2, 3)
    assert [continued(start).channels for start in plan] == [
        (0, 1, 2),
        *[copies] * 4,
        tuple(range(10)),
    ]
    assert (input_channels(plan[1]), fractions(plan[1])) == ([0, 1, 2], [1.0, 1.0, 1.0])
    assert input_channels(plan[5]) == list(copies)
    first, second = fractions(plan[5])[:4], fractions(plan[5])[4:]
    for mine, other in zip(first, second, strict=True):
        assert mine + other == 1.0
        assert 0.25 <= mine <= 0.75
        assert abs(mine - other) >= 0.125


def test_fractions_depend_on_the_seed_alone() -> None:
    plans = [plan_morph(PLAIN, Widen(1), seed=seed) for seed in (5, 5, 6)]
    assert plans[0] == plans[1]
    assert plans[0] != plans[2]


def test_channels_behind_a_flatten_are_copied_with_all_their_pixels() -> None:
    # Two channels of 1×2 pixels are the features 0 1 and 2 3; their copies come behind them.
    _, plan = plan_morph(FLATTENED, Widen(1), seed=1)
    assert continued(plan[2]).channels == (0, 1, 0, 1)
    assert continued(plan[3]).channels == (0, 1, 2, 3, 0, 1, 2, 3)
    assert input_channels(plan[4]) == [0, 1, 2, 3, 0, 1, 2, 3]


@pytest.mark.parametrize(
    ("place", "channels", "is_whole"),
    [
        (1, [0, 1, 2, 3, 4, 3, 4], [True] * 3 + [False] * 4),
        (2, [0, 1, 2, 0, 1, 2, 3, 4], [False] * 6 + [True] * 2),
    ],
)
def test_what_reads_a_concat_knows_where_the_copies_of_each_part_are(
    place: int, channels: list[int], is_whole: list[bool]
) -> None:
    _, plan = plan_morph(CONCAT, Widen(place), seed=1)
    assert continued(plan[3]).channels == tuple(channels)
    assert input_channels(plan[4]) == channels
    assert [fraction == 1.0 for fraction in fractions(plan[4])] == is_whole
    assert continued(plan[4]).channels == (0, 1, 2, 3)


def test_grouped_convolutions_keep_their_inputs() -> None:
    _, plan = plan_morph(GROUPED, Widen(5), seed=1)
    assert continued(plan[3]).inputs == ()
    assert continued(plan[3]).channels == tuple(range(8))


def test_a_morph_that_does_not_apply_has_no_plan() -> None:
    with pytest.raises(ArchitectureError, match="does not apply to this network"):
        plan_morph(PLAIN, Widen(5), seed=1)


def with_dropout(architecture: Architecture) -> Architecture:
    *body, dense = architecture.nodes
    drop = Dropout(inputs=dense.inputs, rate=0.5)
    return Architecture((*body, drop, msgspec.structs.replace(dense, inputs=(len(body),))))


def test_networks_that_differ_in_dropouts_are_paired_layer_by_layer() -> None:
    assert in_short(plan_realigned(PLAIN, with_dropout(PLAIN))) == [0, 1, 2, 3, 4, D, 5]
    assert in_short(plan_realigned(with_dropout(PLAIN), PLAIN)) == [0, 1, 2, 3, 4, 6]
    both = plan_realigned(with_dropout(PLAIN), with_dropout(PLAIN))
    assert in_short(both) == [0, 1, 2, 3, 4, D, 6]


def test_networks_that_differ_in_windows_are_paired_layer_by_layer() -> None:
    assert in_short(plan_realigned(PLAIN, apply(PLAIN, EnlargeKernel(1, 5)))) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("morph", [Deepen(3, "conv"), Widen(1)])
def test_networks_that_differ_in_more_are_refused(morph: Morph) -> None:
    with pytest.raises(ArchitectureError, match="the networks differ in more than dropouts and windows"):
        plan_realigned(PLAIN, apply(PLAIN, morph))
