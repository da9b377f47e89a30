"""From an architecture to a torch module that is exactly what was counted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

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
    ReLU,
)
from aibench.counting import count
from aibench.errors import TrialError

_DENSE_STD = 0.01  # of the classifier's initial weights: Goyal et al., arXiv:1706.02677, section 5.1


class Network(nn.Module):
    """An architecture as a module: images B×C×H×W to logits B×K."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            _MAKERS[type(node)](node, architecture.input_shapes(index)[0].channels if index else 0)
            for index, node in enumerate(architecture.nodes)
        )
        self._inputs = [node.inputs for node in architecture.nodes]
        self._last_uses = _last_uses(architecture)

    def forward(self, images: Tensor) -> Tensor:
        """Walk the graph; outputs are let go of after their last use."""
        outputs: dict[int, Tensor] = {0: images}
        for index in range(1, len(self._inputs)):
            outputs[index] = self.layers[index](*[outputs[source] for source in self._inputs[index]])
            for source in self._last_uses[index]:
                del outputs[source]
        return outputs[len(self._inputs) - 1].flatten(1)


def build(architecture: Architecture, *, seed: int) -> Network:
    """Build a network on the CPU, its weights drawn from ``seed`` alone.

    Convolutions start as He et al. (arXiv:1502.01852) for the fan out, batch norms as the identity.

    Raises:
        TrialError: The built network does not have as many parameters as were counted.
    """
    with torch.device("meta"):
        network = Network(architecture)
    built = sum(parameter.numel() for parameter in network.parameters())
    counted = count(architecture).parameters
    if built != counted:
        raise TrialError(f"the built network has {built} parameters, {counted} were counted")
    network.to_empty(device="cpu")
    _initialise(network, torch.Generator().manual_seed(seed))
    return network


def _initialise(network: Network, generator: torch.Generator) -> None:
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu", generator=generator)
        elif isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=_DENSE_STD, generator=generator)
        elif isinstance(layer, nn.BatchNorm2d):
            layer.reset_parameters()
        if isinstance(layer, nn.Conv2d | nn.Linear) and layer.bias is not None:
            nn.init.zeros_(layer.bias)


def _last_uses(architecture: Architecture) -> list[list[int]]:
    """For each node, the nodes whose outputs nothing needs after it."""
    last_use = {source: index for index, node in enumerate(architecture.nodes) for source in node.inputs}
    ended: list[list[int]] = [[] for _ in architecture.nodes]
    for source, index in last_use.items():
        ended[index].append(source)
    return ended


class _Sum(nn.Module):
    def forward(self, *inputs: Tensor) -> Tensor:
        total = inputs[0] + inputs[1]
        for extra in inputs[2:]:
            total = total + extra
        return total


class _Concatenation(nn.Module):
    def forward(self, *inputs: Tensor) -> Tensor:
        return torch.cat(inputs, dim=1)


class _Flattening(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)[:, :, None, None]


class _DenseMap(nn.Linear):
    """A linear layer from and to B×C×1×1, so that every layer sees maps."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.flatten(1))[:, :, None, None]


def _conv(node: Conv, channels: int) -> nn.Module:
    return nn.Conv2d(
        channels,
        node.channels,
        node.kernel,
        stride=node.stride,
        padding=node.padding,
        groups=node.groups,
        bias=node.bias,
    )


def _max_pool(node: MaxPool, _: int) -> nn.Module:
    return nn.MaxPool2d(node.kernel, stride=node.stride, padding=node.padding)


# Node type -> (node, channels of its first input) to module.
_MAKERS: dict[type, Callable[[Any, int], nn.Module]] = {
    Input: lambda _, __: nn.Identity(),
    Conv: _conv,
    BatchNorm: lambda _, channels: nn.BatchNorm2d(channels),
    ReLU: lambda _, __: nn.ReLU(),
    Add: lambda _, __: _Sum(),
    Concat: lambda _, __: _Concatenation(),
    MaxPool: _max_pool,
    GlobalAvgPool: lambda _, __: nn.AdaptiveAvgPool2d(1),
    Dropout: lambda node, _: nn.Dropout(node.rate),
    Flatten: lambda _, __: _Flattening(),
    Dense: lambda node, channels: _DenseMap(channels, node.features),
}
