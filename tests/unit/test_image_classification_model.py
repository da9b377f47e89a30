from __future__ import annotations

import random
import weakref
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from aibench.architecture import (
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
from aibench.architecture.resnet import NAMES, resnet
from aibench.counting import count
from aibench.errors import TrialError
from workloads.image_classification import model
from workloads.image_classification.model import Network, build
from workloads.image_classification.specialise import specialise


class Sketch:
    """Draws a random network: a chain with random branches in it."""

    def __init__(self, rng: random.Random, *, has_groups: bool) -> None:
        self.rng = rng
        self.has_groups = has_groups
        self.nodes: list[Node] = [
            Input(channels=rng.randint(1, 4), height=rng.randint(3, 12), width=rng.randint(3, 12))
        ]

    def draw(self) -> Architecture:
        steps = [self.conv, self.norm, self.relu, self.pool, self.dropout, self.add, self.concat]
        for _ in range(self.rng.randint(1, 10)):
            self.rng.choice(steps)()
        self.push(GlobalAvgPool(inputs=self.end) if self.rng.random() < 0.5 else Flatten(inputs=self.end))
        if self.rng.random() < 0.3:
            self.push(Dense(inputs=self.end, features=self.rng.randint(2, 8)))
            self.relu()
        self.push(Dense(inputs=self.end, features=self.rng.randint(2, 8)))
        return Architecture(tuple(self.nodes))

    @property
    def end(self) -> tuple[int]:
        return (len(self.nodes) - 1,)

    @property
    def shape(self) -> Shape:
        chain = tuple(self.nodes)
        return chain_shape(chain)

    def push(self, node: Node) -> int:
        self.nodes.append(node)
        return len(self.nodes) - 1

    def conv(self) -> None:
        shape = self.shape
        kernel = self.rng.choice([k for k in (1, 2, 3, 5) if k <= min(shape.height, shape.width)])
        groups = self.rng.choice([1, shape.channels]) if self.has_groups else 1
        self.push(
            Conv(
                inputs=self.end,
                channels=groups * self.rng.randint(1, 4),
                kernel=kernel,
                stride=self.rng.randint(1, 2),
                padding=self.rng.choice([0, kernel // 2]),
                groups=groups,
                bias=self.rng.random() < 0.5,
            )
        )

    def norm(self) -> None:
        self.push(BatchNorm(inputs=self.end))

    def relu(self) -> None:
        self.push(ReLU(inputs=self.end))

    def dropout(self) -> None:
        self.push(Dropout(inputs=self.end, rate=0.5))

    def pool(self) -> None:
        if min(self.shape.height, self.shape.width) >= 3:
            self.push(MaxPool(inputs=self.end, kernel=3, stride=self.rng.randint(1, 2), padding=1))

    def add(self) -> None:
        (start,) = self.end
        branch = self.push(Conv(inputs=(start,), channels=self.shape.channels, kernel=3, padding=1))
        extra = (branch,) if self.rng.random() < 0.5 else (branch, branch)
        self.push(Add(inputs=(start, *extra)))

    def concat(self) -> None:
        (start,) = self.end
        branch = self.push(Conv(inputs=(start,), channels=self.rng.randint(1, 4), kernel=1))
        self.push(Concat(inputs=(start, branch)))


def chain_shape(nodes: tuple[Node, ...]) -> Shape:
    return Architecture(nodes).output_shape


def random_architecture(seed: int, *, has_groups: bool) -> Architecture:
    return Sketch(random.Random(seed), has_groups=has_groups).draw()


def num_parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def counted_by_torch(architecture: Architecture, *, batch: int) -> tuple[int, int]:
    with torch.device("meta"):
        network = Network(architecture)
        images = torch.empty(batch, *architecture.input_shape)
    with FlopCounterMode(display=False) as forward:
        total = network(images).sum()
    with FlopCounterMode(display=False) as backward:
        total.backward()
    return forward.get_total_flops(), backward.get_total_flops()


@pytest.mark.parametrize("seed", range(80))
def test_random_networks_have_the_counted_parameters_and_shapes(seed: int) -> None:
    architecture = random_architecture(seed, has_groups=True)
    network = build(architecture, seed=seed)
    assert num_parameters(network) == count(architecture).parameters
    assert network(torch.zeros(2, *architecture.input_shape)).shape == (2, architecture.output_shape.channels)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("shape", "width"), [(Shape(1, 8, 8), 1), (Shape(3, 65, 80), 3)])
def test_residual_networks_have_the_counted_parameters_and_shapes(
    name: str, shape: Shape, width: int
) -> None:
    architecture = resnet(name, shape, 7, width=width)
    with torch.device("meta"):
        network = Network(architecture)
        logits = network(torch.empty(2, *shape))
    assert num_parameters(network) == count(architecture).parameters
    assert logits.shape == (2, 7)


def test_resnet_50_has_its_published_number_of_parameters() -> None:
    with torch.device("meta"):
        network = Network(resnet("resnet50", Shape(3, 224, 224), 1000))
    assert num_parameters(network) == 25_557_032


@pytest.mark.parametrize("seed", range(60))
def test_tensor_flops_agree_with_torch_on_networks_without_groups(seed: int) -> None:
    architecture = random_architecture(1000 + seed, has_groups=False)
    flops = count(architecture).tensor_flops
    assert counted_by_torch(architecture, batch=2) == (2 * flops.forward, 2 * flops.backward)


def test_tensor_flops_of_grouped_convolutions_are_right_where_torch_overcounts_the_backward() -> None:
    architecture = Architecture(
        (
            Input(channels=32, height=8, width=8),
            Conv(inputs=(0,), channels=32, kernel=1),
            Conv(inputs=(1,), channels=32, kernel=3, padding=1, groups=32),
        )
    )
    # 1×1: 2·64·1·32·32 = 131,072. Grouped: 2·64·9·(32/32)·32 = 36,864, once for either gradient.
    assert count(architecture).tensor_flops == (131_072 + 36_864, 131_072 + 2 * 36_864)
    # torch takes the weight gradient of the grouped one for that of a dense one: 32 times too much.
    assert counted_by_torch(architecture, batch=1) == (131_072 + 36_864, 131_072 + 36_864 + 32 * 36_864)


def test_layers_are_wired_as_the_graph_says() -> None:
    architecture = Architecture(
        (
            Input(channels=1, height=1, width=2),
            ReLU(inputs=(0,)),
            Add(inputs=(0, 1, 1)),
            Concat(inputs=(2, 0)),
            MaxPool(inputs=(3,), kernel=1, stride=1),
            Flatten(inputs=(4,)),
        )
    )
    network = Network(architecture)
    assert network(torch.tensor([[[[1.0, -2.0]]]])).tolist() == [[3.0, -2.0, 1.0, -2.0]]


def test_outputs_are_let_go_of_after_their_last_use() -> None:
    architecture = Architecture(
        (
            Input(channels=1, height=2, width=2),
            ReLU(inputs=(0,)),
            ReLU(inputs=(1,)),
            ReLU(inputs=(2,)),
            Add(inputs=(2, 3)),
        )
    )
    network = Network(architecture)
    outputs: dict[int, weakref.ref[Tensor]] = {}
    alive: dict[int, list[int]] = {}

    def watch(index: int) -> Any:
        def note(_: nn.Module, __: Any, output: Tensor) -> None:
            alive[index] = [earlier for earlier, ref in outputs.items() if ref() is not None]
            outputs[index] = weakref.ref(output)

        return note

    for index in range(1, 5):
        network.layers[index].register_forward_hook(watch(index))
    with torch.no_grad():
        network(torch.ones(1, 1, 2, 2))
    assert alive == {1: [], 2: [1], 3: [2], 4: [2, 3]}


def test_kernel_size_and_dropout_reach_the_built_network() -> None:
    architecture = resnet("resnet18", Shape(1, 8, 8), 10, width=4)
    network = build(specialise(architecture, {"kernel_size": 5, "dropout": 0.3}), seed=0)
    convs = [layer.kernel_size for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    assert convs.count((5, 5)) == 17
    assert convs.count((1, 1)) == 3
    assert num_parameters(network) == 120_902
    assert [layer.p for layer in network.modules() if isinstance(layer, nn.Dropout)] == [0.3]


def test_initial_weights_follow_the_stated_rules() -> None:
    architecture = Architecture(
        (
            Input(channels=16, height=4, width=4),
            Conv(inputs=(0,), channels=64, kernel=3, padding=1, bias=True),
            BatchNorm(inputs=(1,)),
            GlobalAvgPool(inputs=(2,)),
            Dense(inputs=(3,), features=100),
        )
    )
    state = build(architecture, seed=1).state_dict()
    # He for the fan out: √(2 / (64·3·3)) = 0.0589.
    assert state["layers.1.weight"].std().item() == pytest.approx(0.0589, rel=0.05)
    assert state["layers.4.weight"].std().item() == pytest.approx(0.01, rel=0.05)
    assert all(not state[f"layers.{layer}.bias"].any() for layer in (1, 2, 4))
    assert bool((state["layers.2.weight"] == 1).all())
    assert bool((state["layers.2.running_var"] == 1).all())
    assert not state["layers.2.running_mean"].any()


def test_initial_weights_depend_on_the_seed_alone() -> None:
    architecture = resnet("resnet18", Shape(1, 8, 8), 10, width=1)

    def weights(seed: int) -> Tensor:
        torch.rand(seed + 1)  # what else was drawn must not matter
        return torch.cat([parameter.flatten() for parameter in build(architecture, seed=seed).parameters()])

    assert torch.equal(weights(3), weights(3))
    assert not torch.equal(weights(3), weights(4))


def test_a_network_that_is_not_what_was_counted_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    architecture = resnet("resnet18", Shape(1, 8, 8), 10, width=4)
    other = resnet("resnet18", Shape(1, 8, 8), 11, width=4)
    monkeypatch.setattr(model, "count", lambda _: count(other))
    # One class more: a row of 32 weights and a bias.
    with pytest.raises(TrialError, match="the built network has 44550 parameters, 44583 were counted"):
        build(architecture, seed=0)
