"""What an untrained network says of a data set: its gradient and zero-cost proxies on one batch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from aibench.architecture import Architecture
from workloads.image_classification.data import ImageSource
from workloads.image_classification.data.preprocessing import DevicePreprocessing
from workloads.image_classification.features import sample_plan
from workloads.image_classification.model import build

_SEED = 0
_BATCH_SIZE = 128
_PART_SIZE = 8
_UNITS_AT_ONCE = 2**16
_LEAST = 1e-12  # what logarithms of nothing become


def network_features(source: ImageSource, architecture: Architecture) -> Mapping[str, float]:
    """Features of the initial network on at most 128 training images, on the CPU, in FP32.

    Names that begin with ``log`` are natural logarithms.

    Raises:
        DataError: An image cannot be read.
    """
    (batch,) = source.train_batches([sample_plan(source, _BATCH_SIZE)], seed=_SEED)
    preprocessing = DevicePreprocessing(source.facts.preprocessing, torch.device("cpu"))
    images, labels = preprocessing.normalise(torch.from_numpy(batch.images)), torch.from_numpy(batch.labels)
    # In evaluation, so that every image has its own gradient; untrained batch norms are then the identity.
    network = build(architecture, seed=_SEED).eval()
    gradient = gradient_statistics(network, images, labels)
    return {
        "log_gradient_norm": _log(math.sqrt(gradient.squared_norm)),
        "inverse_gradient_noise_scale": gradient.inverse_noise_scale,
        "activation_kernel": activation_kernel(network, images),
        "log_synaptic_flow": synaptic_flow(network, images[:1]),
    }


@dataclass(frozen=True, kw_only=True, slots=True)
class GradientStatistics:
    """The gradient of one batch.

    Attributes:
        squared_norm: Of the whole batch's gradient.
        inverse_noise_scale: Of the simple noise scale, in 1/images; about 0 where noise hides the gradient.
    """

    squared_norm: float
    inverse_noise_scale: float


def gradient_statistics(network: nn.Module, images: Tensor, labels: Tensor) -> GradientStatistics:
    """Norm and noise of the loss's gradient.

    The simple noise scale is trΣ / |G|², both by the unbiased estimates from batches of two sizes of
    McCandlish et al., arXiv:1812.06162, appendix A.1. The estimate of |G|² can be zero or less, so the
    inverse is what always exists. It is 0 with fewer than two parts, or without noise.

    Args:
        images: Normalised, shape [B, C, H, W]; those beyond the last full part of 8 are left out.
        labels: Shape [B].
    """
    num_parts = max(len(images) // _PART_SIZE, 1)
    parts = [slice(part * _PART_SIZE, (part + 1) * _PART_SIZE) for part in range(num_parts)]
    # One gradient at a time: those of all parts of a large network would take gigabytes.
    total, part_norms = torch.zeros(()), 0.0
    for part in parts:
        gradient = _gradient(network, images[part], labels[part])
        total = total + gradient
        part_norms += float(gradient.square().sum())
    squared_norm = float((total / num_parts).square().sum())
    mean_part_norm = part_norms / num_parts
    # With n parts and all B images: |G|² is estimated by (n·|g of all|² - mean |g of a part|²) / (n - 1),
    # and trΣ by B·(mean |g of a part|² - |g of all|²) / (n - 1).
    noise = num_parts * _PART_SIZE * (mean_part_norm - squared_norm)
    signal = num_parts * squared_norm - mean_part_norm
    return GradientStatistics(
        squared_norm=squared_norm, inverse_noise_scale=signal / noise if noise > 0 else 0.0
    )


def activation_kernel(network: nn.Module, images: Tensor) -> float:
    """How differently images switch the rectifiers on; larger for more differently.

    After Mellor et al., arXiv:2006.04647. The log-determinant, per image, of a kernel. Theirs counts the
    units that two images switch alike; here it is the share of them, with the identity added, so that equal
    images have a determinant, too.
    """
    alike = torch.zeros(len(images), len(images), dtype=torch.float64)
    num_units = 0

    def compare(_: nn.Module, __: object, output: Tensor) -> None:
        nonlocal num_units
        for switched_on in torch.split((output > 0).flatten(1), _UNITS_AT_ONCE, dim=1):
            codes = switched_on.double()
            alike.add_(codes @ codes.T + (1 - codes) @ (1 - codes).T)
            num_units += codes.shape[1]

    rectifiers = [layer for layer in network.modules() if isinstance(layer, nn.ReLU)]
    hooks = [layer.register_forward_hook(compare) for layer in rectifiers]
    with torch.no_grad():
        network(images)
    for hook in hooks:
        hook.remove()
    kernel = alike / max(num_units, 1) + torch.eye(len(images), dtype=torch.float64)
    return float(torch.linalg.slogdet(kernel).logabsdet) / len(images)


def synaptic_flow(network: nn.Module, image: Tensor) -> float:
    """Natural logarithm of Σ θ · ∂R/∂θ over all parameters' sizes: Tanaka et al., arXiv:2006.05467.

    R is the sum of the outputs for an image of ones, with every parameter replaced by its size. Changes the
    network's parameters.
    """
    network.double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.abs_()
    response = network(torch.ones_like(image, dtype=torch.float64)).sum()
    parameters = list(network.parameters())
    slopes = torch.autograd.grad(response, parameters)
    flows = [float((p.detach() * slope).sum()) for p, slope in zip(parameters, slopes, strict=True)]
    return _log(sum(flows))


def _gradient(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    slopes = torch.autograd.grad(F.cross_entropy(network(images), labels), list(network.parameters()))
    return torch.cat([slope.flatten() for slope in slopes])


def _log(value: float) -> float:
    return math.log(max(value, _LEAST))
