"""Carrying a trained network's weights into a morph of it.

The state of a network is what `Network.state_dict` holds. A state may lack layers: these start as drawn.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from aibench.api.workload import HyperParameters
from aibench.architecture import Architecture, BatchNorm, Conv
from aibench.architecture.inheritance import Continued, Fresh, InputShare, Plan, plan_morph, plan_realigned
from aibench.architecture.morphs import parse_morph
from aibench.errors import ArchitectureError
from workloads.image_classification.specialise import specialise

State = Mapping[str, Tensor]


def inherited_state(
    parent: Architecture,
    state: State,
    *,
    child: Architecture,
    morphs: Sequence[str],
    hyper_parameters: HyperParameters,
    seed: int,
) -> dict[str, Tensor]:
    """The weights that a child starts with; what they lack starts as in a network trained from scratch.

    The morphs are applied to the parent as it was trained; its hyper-parameters change windows and put a
    dropout behind all places of morphs, so that places are the same as in the network that was searched.

    Args:
        parent: The parent as it was trained.
        state: All of its weights.
        child: The network to train, hyper-parameters applied.
        morphs: What was done to the parent, in order.
        hyper_parameters: Of the child.
        seed: Of the fractions in which copies share weights.

    Returns:
        With these, the child computes what the parent does in evaluation mode, unless its hyper-parameters
        make windows smaller: then their middle is kept.

    Raises:
        ArchitectureError: These morphs and hyper-parameters do not lead from the parent to the child.
    """
    network, weights = parent, dict(state)
    for number, text in enumerate(morphs):
        network, plan = plan_morph(network, parse_morph(text), seed=seed + number)
        weights = transfer(weights, plan, network)
    if specialise(network, hyper_parameters) != child:
        raise ArchitectureError("morphs and hyper-parameters do not lead from the parent to this network")
    return transfer(weights, plan_realigned(network, child), child)


def transfer(state: State, plan: Plan, child: Architecture) -> dict[str, Tensor]:
    """Where ``plan`` takes the child's weights from, as tensors."""
    layers: dict[int, dict[str, Tensor]] = {}
    for key, value in state.items():
        _, place, name = key.split(".", 2)
        layers.setdefault(int(place), {})[name] = value
    weights: dict[str, Tensor] = {}
    for index, start in enumerate(plan):
        if isinstance(start, Continued):
            own = {
                name: _continued(value, start, child, index)
                for name, value in layers.get(start.node, {}).items()
            }
        else:
            own = _fresh(start, child, index)
        weights.update({f"layers.{index}.{name}": value for name, value in own.items()})
    return weights


def _continued(value: Tensor, start: Continued, child: Architecture, index: int) -> Tensor:
    if value.dim() == 0:
        return value  # the number of batches that a batch norm has seen
    value = _picked(value, 0, start.channels)
    if value.dim() > 1 and start.inputs:
        value = _shared(value, start.inputs)
    node = child.nodes[index]
    return _realigned(value, node.kernel) if type(node) is Conv and value.dim() > 1 else value


def _picked(value: Tensor, axis: int, places: Sequence[int]) -> Tensor:
    if list(places) == list(range(value.shape[axis])):
        return value
    return value.index_select(axis, torch.tensor(places))


def _shared(value: Tensor, inputs: Sequence[InputShare]) -> Tensor:
    value = _picked(value, 1, [share.channel for share in inputs])
    fractions = [share.fraction for share in inputs]
    if all(fraction == 1.0 for fraction in fractions):
        return value
    weight = torch.tensor(fractions, dtype=value.dtype)
    return value * weight.view(1, -1, *[1] * (value.dim() - 2))


def _realigned(value: Tensor, kernel: int) -> Tensor:
    """Windows of this side with the same centre: what is new is 0, what does not fit is cut off."""
    margin = (kernel - value.shape[-1]) // 2
    return F.pad(value, (margin,) * 4) if margin else value


def _fresh(start: Fresh, child: Architecture, index: int) -> dict[str, Tensor]:
    """Parameters of a layer that is not drawn, in double precision."""
    node = child.nodes[index]
    if start is Fresh.DRAWN:
        return {}
    if type(node) is Conv:
        weight = torch.zeros(
            node.channels,
            child.input_shapes(index)[0].channels,
            node.kernel,
            node.kernel,
            dtype=torch.float64,
        )
        nn.init.dirac_(weight)
        return {"weight": weight}
    assert type(node) is BatchNorm
    num_channels = child.shapes[index].channels
    # Statistics of mean 0 and variance 1 divide by the root of 1 + eps: this scale takes it back.
    scale = 0.0 if start is Fresh.ZERO else math.sqrt(1.0 + nn.BatchNorm2d(1).eps)
    return {
        "weight": torch.full((num_channels,), scale, dtype=torch.float64),
        "bias": torch.zeros(num_channels, dtype=torch.float64),
        "running_mean": torch.zeros(num_channels, dtype=torch.float64),
        "running_var": torch.ones(num_channels, dtype=torch.float64),
        "num_batches_tracked": torch.zeros((), dtype=torch.int64),
    }
