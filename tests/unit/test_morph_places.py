from __future__ import annotations

import msgspec
import pytest
from support.networks import GROUPED, IMAGE, IMAGE_IN_A_SUM, INCEPTION, TWO_WIDTHS, widenings, words

from aibench.architecture import (
    Add,
    Architecture,
    BatchNorm,
    Concat,
    Conv,
    Dense,
    GlobalAvgPool,
    Input,
    Node,
    ReLU,
)
from aibench.architecture.morphs import (
    EnlargeKernel,
    Skip,
    Widen,
    applicable,
    apply,
)


def windows(*convs: Conv, side: int = 16) -> Architecture:
    """A chain of convolutions behind a first one, all on maps of this side."""
    return Architecture(
        (
            Input(channels=3, height=side, width=side),
            Conv(inputs=(0,), channels=4, kernel=1),
            *[msgspec.structs.replace(conv, inputs=(place,)) for place, conv in enumerate(convs, start=1)],
            GlobalAvgPool(inputs=(len(convs) + 1,)),
            Dense(inputs=(len(convs) + 2,), features=10),
        )
    )


@pytest.mark.parametrize(
    ("conv", "may_grow"),
    [
        (Conv(channels=4, kernel=3, padding=1), True),
        (Conv(channels=4, kernel=3, padding=1, stride=2), True),
        (Conv(channels=4, kernel=3, padding=1, groups=2), True),
        (Conv(channels=4, kernel=5, padding=2), True),
        (Conv(channels=4, kernel=7, padding=3), False),
        (Conv(channels=4, kernel=1), False),
        (Conv(channels=4, kernel=4, padding=2), False),
        (Conv(channels=4, kernel=3), False),
    ],
)
def test_only_odd_windows_that_keep_sides_are_enlarged_to_seven_at_most(conv: Conv, may_grow: bool) -> None:
    enlargements = [EnlargeKernel(2, conv.kernel + 2)] if may_grow else []
    assert applicable(windows(conv), kinds=(EnlargeKernel,)) == enlargements


@pytest.mark.parametrize(("side", "may_grow"), [(1, False), (2, False), (3, True)])
def test_a_window_grows_no_further_than_its_map_reaches(side: int, may_grow: bool) -> None:
    # On a map of side 3, a 5×5 window sees the last pixel from the first; on one of side 2 its rim sees none.
    network = windows(Conv(channels=4, kernel=3, padding=1), side=side)
    assert bool(applicable(network, kinds=(EnlargeKernel,))) == may_grow


def test_the_strided_stem_of_imagenet_networks_is_not_enlarged() -> None:
    stem = Conv(inputs=(0,), channels=4, kernel=3, padding=1, stride=2)
    layers = (GlobalAvgPool(inputs=(1,)), Dense(inputs=(2,), features=10))
    assert applicable(Architecture((IMAGE, stem, *layers)), kinds=(EnlargeKernel,)) == []
    plain = msgspec.structs.replace(stem, stride=1)
    assert applicable(Architecture((IMAGE, plain, *layers)), kinds=(EnlargeKernel,)) == [EnlargeKernel(1, 5)]


def test_a_skip_joins_the_channel_groups_of_its_ends() -> None:
    joined = apply(TWO_WIDTHS, Skip(2, 4, "add"))
    assert widenings(joined) == ["widen@1:x2", "widen@7:x2"]
    wide = apply(joined, Widen(1))
    assert [shape.channels for shape in wide.shapes[1:7]] == [8, 8, 8, 8, 8, 8]


def test_a_concat_grows_with_what_it_joins() -> None:
    assert widenings(INCEPTION) == ["widen@1:x2", "widen@4:x2", "widen@6:x2", "widen@10:x2", "widen@15:x2"]
    # The pooled first convolution is one of the concat's inputs itself: 4 + 6 + 8 channels become 4 + 6 + 16.
    wide = apply(INCEPTION, Widen(1))
    assert [wide.shapes[place].channels for place in (3, 5, 7, 8, 9)] == [16, 4, 6, 16, 26]
    assert wide.nodes[10] == INCEPTION.nodes[10]


def joined(*behind: Node, channels: tuple[int, int] = (4, 4)) -> Architecture:
    """Two convolutions (1 and 2) side by side in a concat (3), and what stands behind it."""
    return Architecture(
        (
            IMAGE,
            Conv(inputs=(0,), channels=channels[0], kernel=1),
            Conv(inputs=(0,), channels=channels[1], kernel=1),
            Concat(inputs=(1, 2)),
            *behind,
        )
    )


def head(place: int) -> tuple[Node, ...]:
    return GlobalAvgPool(inputs=(place,)), Dense(inputs=(place + 1,), features=10)


def test_a_sum_of_a_concat_with_what_follows_it_alone_grows() -> None:
    free = joined(BatchNorm(inputs=(3,)), Add(inputs=(3, 4)), *head(5))
    assert widenings(free) == ["widen@1:x2", "widen@2:x2"]
    assert apply(free, Widen(2)).shapes[5].channels == 12


def test_what_a_concat_joins_is_fixed_by_a_sum_with_another_convolution() -> None:
    tied = joined(Conv(inputs=(3,), channels=8, kernel=1), Add(inputs=(3, 4)), *head(5))
    assert widenings(tied) == []


def test_what_a_concat_joins_is_fixed_by_a_sum_with_the_image() -> None:
    tied = joined(Add(inputs=(3, 0)), *head(4), channels=(1, 2))
    assert widenings(tied) == []


def test_what_a_concat_joins_is_fixed_by_a_grouped_convolution() -> None:
    grouped = joined(Conv(inputs=(3,), channels=8, kernel=1, groups=2), *head(4))
    assert widenings(grouped) == []


def test_what_a_concat_joins_is_fixed_where_it_is_the_output() -> None:
    assert widenings(joined(GlobalAvgPool(inputs=(3,)))) == []


def test_what_a_concat_of_concats_joins_is_fixed_through_both() -> None:
    free = joined(Conv(inputs=(0,), channels=2, kernel=1), Concat(inputs=(4, 3)), *head(5))
    assert widenings(free) == ["widen@1:x2", "widen@2:x2", "widen@4:x2"]
    last = Conv(inputs=(5,), channels=10, kernel=1)
    tied = Architecture((*free.nodes[:6], last, Add(inputs=(5, 6)), *head(7)))
    assert widenings(tied) == []


def test_neither_side_of_a_grouped_convolution_can_be_widened() -> None:
    assert widenings(GROUPED) == ["widen@5:x2"]


def test_a_sum_with_the_image_cannot_be_widened() -> None:
    assert words(IMAGE_IN_A_SUM) == ["deepen@3:conv", "deepen@3:block", "kernel@1:5"]


def test_skips_join_only_maps_of_equal_sides() -> None:
    skips = [word for word in words(INCEPTION, kinds=(Skip,)) if word.endswith("add")]
    assert skips == ["skip@5-7:add", "skip@5-12:add", "skip@7-12:add"]


def test_behind_the_global_pooling_nothing_is_deepened() -> None:
    head = Architecture(
        (
            IMAGE,
            GlobalAvgPool(inputs=(0,)),
            Dense(inputs=(1,), features=4),
            ReLU(inputs=(2,)),
            Dense(inputs=(3,), features=4),
            ReLU(inputs=(4,)),
            Dense(inputs=(5,), features=10),
        )
    )
    assert words(head) == ["widen@2:x2", "widen@4:x2"]
