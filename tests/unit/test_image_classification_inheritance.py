from __future__ import annotations

import dataclasses
import random
from collections import Counter
from collections.abc import Sequence
from functools import cache

import pytest
import torch
from torch import Tensor, nn

from aibench.api.workload import HyperParameters
from aibench.architecture import (
    Add,
    Architecture,
    BatchNorm,
    Concat,
    Conv,
    Dense,
    Dropout,
    Flatten,
    Input,
    MaxPool,
    ReLU,
    Shape,
)
from aibench.architecture.inheritance import Continued, InputShare, plan_morph
from aibench.architecture.morphs import (
    Deepen,
    Morph,
    Skip,
    Widen,
    applicable,
    apply,
    random_morph,
)
from aibench.architecture.resnet import resnet
from aibench.counting import count
from aibench.errors import ArchitectureError
from workloads.image_classification.inheritance import State, inherited_state, transfer
from workloads.image_classification.model import Network, build
from workloads.image_classification.specialise import specialise

# Concats that may grow and one that may not, a grouped convolution, a flattened map, two dense layers.
BRANCHES = Architecture(
    (
        Input(channels=3, height=8, width=6),
        Conv(inputs=(0,), channels=4, kernel=3, padding=1, bias=True),
        BatchNorm(inputs=(1,)),
        ReLU(inputs=(2,)),
        Conv(inputs=(3,), channels=2, kernel=1),
        ReLU(inputs=(4,)),
        Conv(inputs=(3,), channels=3, kernel=5, padding=2),
        ReLU(inputs=(6,)),
        Concat(inputs=(5, 7, 5)),
        BatchNorm(inputs=(8,)),
        ReLU(inputs=(9,)),
        MaxPool(inputs=(10,), kernel=2, stride=2),
        Conv(inputs=(11,), channels=4, kernel=3, padding=1),
        Conv(inputs=(12,), channels=4, kernel=3, padding=1, groups=2),
        ReLU(inputs=(13,)),
        Concat(inputs=(14, 11)),
        Dropout(inputs=(15,), rate=0.2),
        Flatten(inputs=(16,)),
        Dense(inputs=(17,), features=5),
        ReLU(inputs=(18,)),
        Dense(inputs=(19,), features=7),
    )
)

# A sum of a flattened map with a dense layer, and one of a concat with what follows it.
SUMS = Architecture(
    (
        Input(channels=3, height=4, width=4),
        Conv(inputs=(0,), channels=2, kernel=3, padding=1, stride=2),
        ReLU(inputs=(1,)),
        Conv(inputs=(0,), channels=3, kernel=3, padding=1, stride=2),
        Concat(inputs=(2, 3)),
        BatchNorm(inputs=(4,)),
        Add(inputs=(5, 4)),
        ReLU(inputs=(6,)),
        Conv(inputs=(7,), channels=2, kernel=3, padding=1),
        ReLU(inputs=(8,)),
        Flatten(inputs=(9,)),
        Dense(inputs=(10,), features=8),
        Add(inputs=(11, 10)),
        Dense(inputs=(12,), features=4),
    )
)


@cache
def network(name: str) -> Architecture:
    if name in ("branches", "sums"):
        return {"branches": BRANCHES, "sums": SUMS}[name]
    depth, side = name.split("@")
    channels = 1 if side == "8" else 3
    return resnet(depth, Shape(channels, int(side), int(side)), num_classes=10, width=2)


@cache
def trained(name: str) -> Network:
    """A network as if it were trained: no weight, scale or statistic is what it starts with."""
    return disturbed(network(name), seed=sum(name.encode()))


def disturbed(architecture: Architecture, *, seed: int) -> Network:
    module = build(architecture, seed=seed).double().eval()
    generator = torch.Generator().manual_seed(seed)

    def uniform(like: Tensor, low: float, high: float) -> Tensor:
        return torch.empty_like(like).uniform_(low, high, generator=generator)

    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            signs = uniform(layer.weight, -1, 1).sign()
            layer.weight.data = signs * uniform(layer.weight, 0.5, 1.5)
            layer.bias.data = uniform(layer.bias, -0.5, 0.5)
            layer.running_mean = uniform(layer.bias, -0.5, 0.5)
            layer.running_var = uniform(layer.bias, 0.5, 2.0)
        elif isinstance(layer, nn.Linear):
            layer.weight.data = uniform(layer.weight, -1, 1)
            layer.bias.data = uniform(layer.bias, -1, 1)
    return module


def images(architecture: Architecture) -> Tensor:
    return torch.randn(
        (4, *architecture.input_shape), dtype=torch.float64, generator=torch.Generator().manual_seed(1)
    )


def child_of(architecture: Architecture, state: State) -> Network:
    module = build(architecture, seed=99).double().eval()
    assert module.load_state_dict(state, strict=False).unexpected_keys == []
    return module


@torch.no_grad()
def departure(first: nn.Module, second: nn.Module, batch: Tensor) -> float:
    expected = first(batch)
    assert expected.std() > 1e-3
    return float((expected - second(batch)).abs().max())


def descend(name: str, rng: random.Random, num_morphs: int) -> tuple[Architecture, list[Morph]]:
    child, morphs = network(name), []
    for _ in range(num_morphs):
        child, morph = random_morph(child, rng)
        morphs.append(morph)
    return child, morphs


def inherit(
    parent: Architecture, module: Network, child: Architecture, morphs: Sequence[Morph], **values: float
) -> dict[str, Tensor]:
    hyper_parameters: HyperParameters = dict(values)
    return inherited_state(
        parent,
        module.state_dict(),
        child=child,
        morphs=[str(morph) for morph in morphs],
        hyper_parameters=hyper_parameters,
        seed=1,
    )


NAMES = ["resnet18@8", "resnet18@16", "resnet50@8", "resnet50-v1@16", "branches", "sums"]


@pytest.mark.parametrize("seed", range(50))
@pytest.mark.parametrize("name", NAMES)
def test_a_child_of_any_chain_of_morphs_computes_what_its_parent_does(name: str, seed: int) -> None:
    rng = random.Random(f"{name}{seed}")
    child, morphs = descend(name, rng, 1 + seed % 6)
    module = child_of(child, inherit(network(name), trained(name), child, morphs))
    assert sum(parameter.numel() for parameter in module.parameters()) == count(child).parameters
    assert departure(trained(name), module, images(child)) <= 1e-8


@pytest.mark.parametrize("name", ["resnet18@8", "branches", "sums"])
def test_every_layer_that_goes_on_repeats_its_parents_channels(name: str) -> None:
    parent, outputs = network(name), layer_outputs(network(name), trained(name))
    morphs = applicable(parent)
    for morph in random.Random(name).sample(morphs, k=min(20, len(morphs))):
        child, plan = plan_morph(parent, morph, seed=3)
        after = layer_outputs(child, child_of(child, transfer(trained(name).state_dict(), plan, child)))
        for index, start in enumerate(plan):
            if isinstance(start, Continued):
                expected = outputs[start.node][:, list(start.channels)]
                torch.testing.assert_close(after[index], expected, rtol=1e-9, atol=1e-9)


def test_the_chains_hold_every_kind_of_morph() -> None:
    chains = [descend(name, random.Random(f"{name}{seed}"), 6)[1] for name in NAMES for seed in range(5)]
    words = Counter(str(morph).replace("@", ":").split(":", 1)[0] for chain in chains for morph in chain)
    assert min(words[kind] for kind in ("deepen", "widen", "skip", "kernel")) > 20


@pytest.mark.parametrize("name", ["resnet18@8", "branches", "sums"])
def test_copies_whose_readers_are_not_split_are_noticed(name: str) -> None:
    widen = applicable(network(name), kinds=(Widen,))[0]
    child, plan = plan_morph(network(name), widen, seed=1)
    unsplit = tuple(
        dataclasses.replace(start, inputs=tuple([InputShare(share.channel, 1.0) for share in start.inputs]))
        if isinstance(start, Continued)
        else start
        for start in plan
    )
    module = child_of(child, transfer(trained(name).state_dict(), unsplit, child))
    assert departure(trained(name), module, images(child)) > 1e-2


@pytest.mark.parametrize(
    ("morph", "index"), [(Deepen(3, "conv"), 4), (Deepen(3, "conv"), 5), (Deepen(3, "block"), 8)]
)
def test_a_layer_that_is_drawn_instead_of_passing_on_is_noticed(morph: Morph, index: int) -> None:
    child, plan = plan_morph(network("resnet18@8"), morph, seed=1)
    weights = transfer(trained("resnet18@8").state_dict(), plan, child)
    drawn = {name: value for name, value in weights.items() if not name.startswith(f"layers.{index}.")}
    assert len(drawn) < len(weights)
    assert departure(trained("resnet18@8"), child_of(child, drawn), images(child)) > 1e-6


def test_copies_diverge_in_training() -> None:
    child, plan = plan_morph(SUMS, Widen(1), seed=1)
    module = child_of(child, transfer(trained("sums").state_dict(), plan, child)).train()
    conv = module.layers[1]
    assert isinstance(conv, nn.Conv2d)
    assert torch.equal(conv.weight[:2], conv.weight[2:])
    module(images(child)).square().sum().backward()
    gradient = conv.weight.grad
    assert gradient is not None
    assert (gradient[:2] - gradient[2:]).abs().amin(dim=(1, 2, 3)).max() > 1e-4


PARENT_VALUES: HyperParameters = {"kernel_size": 3, "dropout": 0.3}
MORPHS: list[Morph] = [Deepen(3, "block"), Widen(1), Skip(3, 10, "concat")]


@pytest.mark.parametrize(
    "values",
    [
        {"kernel_size": 3, "dropout": 0.3},
        {"kernel_size": 3, "dropout": 0.0},
        {"kernel_size": 5, "dropout": 0.5},
        {"dropout": 0.1},
        {},
    ],
)
def test_a_child_with_other_hyper_parameters_computes_the_same(values: dict[str, float]) -> None:
    parent = specialise(network("resnet18@16"), PARENT_VALUES)
    module = disturbed(parent, seed=1)
    child = morphed(network("resnet18@16"), {**PARENT_VALUES, **values})
    state = inherit(parent, module, child, MORPHS, **values)
    assert departure(module, child_of(child, state), images(child)) <= 1e-8


def test_smaller_windows_keep_their_middle() -> None:
    parent = specialise(network("resnet18@8"), {"kernel_size": 5})
    module = disturbed(parent, seed=1)
    child = morphed(network("resnet18@8"), {"kernel_size": 3})
    state = inherit(parent, module, child, MORPHS, kernel_size=3)
    before = module.state_dict()["layers.1.weight"]
    assert before.shape == (2, 1, 5, 5)
    assert torch.equal(state["layers.1.weight"][:2], before[:, :, 1:4, 1:4])


def morphed(architecture: Architecture, values: HyperParameters) -> Architecture:
    for morph in MORPHS:
        architecture = apply(architecture, morph)
    return specialise(architecture, values)


def test_every_place_of_a_morph_is_before_the_dropout_that_hyper_parameters_insert() -> None:
    plain = network("resnet18@16")
    dropped = specialise(plain, {"dropout": 0.3})
    assert applicable(dropped) == applicable(plain)


@pytest.mark.parametrize(
    ("morphs", "problem"),
    [
        (MORPHS[:2], "morphs and hyper-parameters do not lead from the parent to this network"),
        ([*MORPHS, Widen(999)], "morph widen@999:x2: does not apply to this network"),
    ],
)
def test_morphs_that_do_not_lead_to_the_child_are_refused(morphs: list[Morph], problem: str) -> None:
    parent = network("resnet18@8")
    with pytest.raises(ArchitectureError, match=problem):
        inherit(parent, trained("resnet18@8"), morphed(parent, {}), morphs)


@torch.no_grad()
def layer_outputs(architecture: Architecture, module: Network) -> list[Tensor]:
    outputs: list[Tensor] = []
    for node, layer in zip(architecture.nodes, module.layers, strict=True):
        inputs = [outputs[source] for source in node.inputs] or [images(architecture)]
        outputs.append(layer(*inputs))
    return outputs
