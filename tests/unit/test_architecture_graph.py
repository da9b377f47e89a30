from __future__ import annotations

import msgspec
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
from aibench.architecture.graph import ArchitectureDocument
from aibench.errors import ArchitectureError

IMAGE = Input(channels=3, height=8, width=6)

TINY = Architecture(
    (
        Input(channels=1, height=4, width=4),
        Conv(inputs=(0,), channels=2, kernel=3, padding=1),
        ReLU(inputs=(1,)),
        GlobalAvgPool(inputs=(2,)),
        Dense(inputs=(3,), features=10),
    )
)
TINY_JSON = (
    b'{"format":"aibench-architecture/1","nodes":['
    b'{"channels":1,"height":4,"op":"input","width":4},'
    b'{"channels":2,"inputs":[0],"kernel":3,"op":"conv","padding":1},'
    b'{"inputs":[1],"op":"relu"},'
    b'{"inputs":[2],"op":"global_avg_pool"},'
    b'{"features":10,"inputs":[3],"op":"dense"}]}'
)
TINY_HASH = "197678b0fe24380ace04e8a0cf35b491b41afdaf64eb8f68634699a66cdc4b77"

EVERY_LAYER = Architecture(
    (
        IMAGE,
        Conv(inputs=(0,), channels=8, kernel=3, stride=2, padding=1, bias=True),
        BatchNorm(inputs=(1,)),
        ReLU(inputs=(2,)),
        Conv(inputs=(3,), channels=8, kernel=1, groups=4),
        Add(inputs=(4, 3)),
        Concat(inputs=(5, 1)),
        MaxPool(inputs=(6,), kernel=2, stride=1, padding=1),
        Dropout(inputs=(7,), rate=0.25),
        GlobalAvgPool(inputs=(8,)),
        Flatten(inputs=(9,)),
        Dense(inputs=(10,), features=5),
    )
)


def test_shapes_follow_from_the_layers() -> None:
    assert EVERY_LAYER.shapes == (
        Shape(3, 8, 6),
        Shape(8, 4, 3),
        Shape(8, 4, 3),
        Shape(8, 4, 3),
        Shape(8, 4, 3),
        Shape(8, 4, 3),
        Shape(16, 4, 3),
        Shape(16, 5, 4),
        Shape(16, 5, 4),
        Shape(16, 1, 1),
        Shape(16, 1, 1),
        Shape(5, 1, 1),
    )
    assert EVERY_LAYER.input_shape == Shape(3, 8, 6)
    assert EVERY_LAYER.output_shape == Shape(5, 1, 1)
    assert EVERY_LAYER.input_shapes(6) == (Shape(8, 4, 3), Shape(8, 4, 3))


def test_flatten_moves_all_elements_into_the_channels() -> None:
    assert Architecture((IMAGE, Flatten(inputs=(0,)))).output_shape == Shape(144, 1, 1)


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "side"),
    [(7, 2, 3, 112), (3, 2, 1, 112), (1, 2, 0, 112), (3, 2, 0, 111), (224, 1, 0, 1), (5, 3, 0, 74)],
)
def test_a_window_that_does_not_fit_a_last_time_is_dropped(
    kernel: int, stride: int, padding: int, side: int
) -> None:
    conv = Conv(inputs=(0,), channels=1, kernel=kernel, stride=stride, padding=padding)
    network = Architecture((Input(channels=1, height=224, width=224), conv))
    assert network.output_shape == Shape(1, side, side)


def test_elements_of_a_shape_are_all_its_values() -> None:
    assert Shape(3, 8, 6).elements == 144
    assert str(Shape(3, 8, 6)) == "3×8×6"


def test_canonical_json_is_sorted_and_leaves_defaults_out() -> None:
    assert TINY.to_json() == TINY_JSON


def test_networks_share_equal_layers_and_stay_what_they_were() -> None:
    known: dict[Node | Shape, Node | Shape] = {}
    one, other = Architecture.from_json(TINY.to_json()), Architecture.from_json(TINY.to_json())
    assert one.nodes[1] is not other.nodes[1]
    for network in (one, other):
        network.share(known)
        assert (network, network.shapes) == (TINY, TINY.shapes)
        assert network.to_json() == TINY.to_json()
    pairs = zip(one.nodes + one.shapes, other.nodes + other.shapes, strict=True)
    assert all(mine is its for mine, its in pairs)


def test_the_content_hash_of_a_network_never_changes() -> None:
    assert TINY.content_hash == TINY_HASH


def test_the_content_hash_ignores_how_the_json_was_written() -> None:
    spread = msgspec.json.format(TINY_JSON, indent=2).replace(
        b'"padding": 1', b'"padding":1,"groups":1,"stride":1'
    )
    assert Architecture.from_json(spread).content_hash == TINY_HASH


@pytest.mark.parametrize(
    "other",
    [
        Conv(inputs=(0,), channels=3, kernel=3, padding=1),
        Conv(inputs=(0,), channels=2, kernel=1),
        Conv(inputs=(0,), channels=2, kernel=3, padding=1, bias=True),
    ],
)
def test_another_layer_gives_another_hash(other: Conv) -> None:
    changed = Architecture((TINY.nodes[0], other, *TINY.nodes[2:]))
    assert changed.content_hash != TINY.content_hash


def test_every_layer_kind_survives_json() -> None:
    assert {type(node) for node in EVERY_LAYER.nodes} == set(OP_NAMES)
    assert Architecture.from_json(EVERY_LAYER.to_json()) == EVERY_LAYER
    assert Architecture.from_json(EVERY_LAYER.to_json().decode()).content_hash == EVERY_LAYER.content_hash


def test_a_document_is_checked_only_when_it_becomes_an_architecture() -> None:
    document = ArchitectureDocument(nodes=(IMAGE, ReLU(inputs=(5,))))
    with pytest.raises(ArchitectureError, match=r"^node 1 \(relu\): input 5 is not an earlier node$"):
        document.to_architecture()
    assert TINY.to_document().to_architecture() == TINY


@pytest.mark.parametrize(
    ("nodes", "problem"),
    [
        ((), "node 0 must be the input"),
        ((ReLU(inputs=(0,)),), "node 0 must be the input"),
        ((IMAGE, ReLU(inputs=(1,))), "node 1 (relu): input 1 is not an earlier node"),
        (
            (IMAGE, Add(inputs=(0, 2)), ReLU(inputs=(1,))),
            "node 1 (add): input 2 is not an earlier node",
        ),
        ((IMAGE, ReLU()), "node 1 (relu): has 0 inputs, expected 1"),
        ((IMAGE, ReLU(inputs=(0, 0))), "node 1 (relu): has 2 inputs, expected 1"),
        ((IMAGE, Add(inputs=(0,))), "node 1 (add): has 1 inputs, expected 2 or more"),
        ((IMAGE, Concat()), "node 1 (concat): has 0 inputs, expected 2 or more"),
        (
            (Input(inputs=(0,), channels=1, height=1, width=1),),
            "node 0 (input): input 0 is not an earlier node",
        ),
        ((IMAGE, IMAGE), "node 1 (input): a second input"),
        (
            (IMAGE, Input(inputs=(0,), channels=1, height=1, width=1)),
            "node 1 (input): has 1 inputs, expected 0",
        ),
        (
            (IMAGE, ReLU(inputs=(0,)), ReLU(inputs=(0,)), ReLU(inputs=(2,))),
            "node 1 (relu): feeds no later node",
        ),
        (
            (IMAGE, Conv(inputs=(0,), channels=4, kernel=1), Add(inputs=(1, 0))),
            "node 2 (add): inputs differ in shape: 4×8×6, 3×8×6",
        ),
        (
            (IMAGE, Conv(inputs=(0,), channels=4, kernel=1, stride=2), Concat(inputs=(1, 0))),
            "node 2 (concat): inputs differ in height or width: 4×4×3, 3×8×6",
        ),
        (
            (IMAGE, Conv(inputs=(0,), channels=4, kernel=9, padding=1)),
            "node 1 (conv): kernel 9 does not fit a side of 6 with padding 1",
        ),
        (
            (IMAGE, Conv(inputs=(0,), channels=4, kernel=1, groups=2)),
            "node 1 (conv): 3 → 4 channels do not divide into 2 groups",
        ),
        (
            (IMAGE, Conv(inputs=(0,), channels=4, kernel=1, groups=3)),
            "node 1 (conv): 3 → 4 channels do not divide into 3 groups",
        ),
        (
            (IMAGE, MaxPool(inputs=(0,), kernel=7, stride=1)),
            "node 1 (max_pool): kernel 7 does not fit a side of 6 with padding 0",
        ),
        (
            (IMAGE, MaxPool(inputs=(0,), kernel=3, stride=1, padding=2)),
            "node 1 (max_pool): padding 2 exceeds half of kernel 3",
        ),
        (
            (IMAGE, Dense(inputs=(0,), features=10)),
            "node 1 (dense): input is 3×8×6, expected C×1×1 (pool or flatten first)",
        ),
    ],
)
def test_what_is_not_a_network_is_refused_by_node(nodes: tuple[Node, ...], problem: str) -> None:
    with pytest.raises(ArchitectureError) as caught:
        Architecture(nodes)
    assert str(caught.value) == problem


def test_an_unknown_layer_is_refused() -> None:
    class Mystery(ReLU, frozen=True, tag="mystery"):
        pass

    with pytest.raises(ArchitectureError, match=r"^node 1: Mystery is not a layer$"):
        Architecture((IMAGE, Mystery(inputs=(0,))))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "not an architecture of format aibench-architecture/1: Input data was truncated"),
        ('{"nodes": [{"op": "attention"}]}', "Invalid value 'attention' - at `$.nodes[0].op`"),
        ('{"nodes": [{"op": "relu", "inputs": [-1]}]}', "Expected `int` >= 0 - at `$.nodes[0].inputs[0]`"),
        ('{"nodes": [{"op": "relu", "slope": 1}]}', "unknown field `slope` - at `$.nodes[0]`"),
        (
            '{"nodes": [{"op": "conv", "channels": 0, "kernel": 1}]}',
            "Expected `int` >= 1 - at `$.nodes[0].channels`",
        ),
        (
            '{"nodes": [{"op": "dropout", "rate": 1.0}]}',
            "Expected `float` < 1.0 - at `$.nodes[0].rate`",
        ),
        ("{}", "missing required field `nodes`"),
        (
            '{"format": "aibench-architecture/2", "nodes": []}',
            "architecture format 'aibench-architecture/2': expected 'aibench-architecture/1'",
        ),
    ],
)
def test_json_of_anything_else_is_refused(text: str, problem: str) -> None:
    with pytest.raises(ArchitectureError) as caught:
        Architecture.from_json(text)
    assert problem in str(caught.value)
