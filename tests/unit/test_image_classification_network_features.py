from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from aibench.architecture.resnet import resnet
from workloads.image_classification import network_features as features
from workloads.image_classification.data.generated import generated
from workloads.image_classification.network_features import (
    activation_kernel,
    gradient_statistics,
    network_features,
    synaptic_flow,
)


class Bias(nn.Module):
    """Logits that no image changes: the gradient is softmax less the class, whatever the image."""

    def __init__(self) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(2))

    def forward(self, images: Tensor) -> Tensor:
        return self.logits.expand(len(images), 2)


def images(count: int) -> Tensor:
    return torch.zeros(count, 1, 1, 1)


def test_equal_images_have_a_gradient_and_no_noise() -> None:
    found = gradient_statistics(Bias(), images(32), torch.zeros(32, dtype=torch.int64))
    # Softmax (½, ½) less (1, 0), squared: ¼ + ¼.
    assert found.squared_norm == pytest.approx(0.5)
    assert found.inverse_noise_scale == 0.0


def test_noise_between_parts_is_measured() -> None:
    # Parts of 8 of one class each, 3 of class 0 and 1 of class 1: part gradients ±(½, -½), their mean ±¼.
    labels = torch.tensor([0] * 24 + [1] * 8)
    found = gradient_statistics(Bias(), images(32), labels)
    assert found.squared_norm == pytest.approx(0.125)
    # (4 · 0.125 - 0.5) / (32 · (0.5 - 0.125)): the estimated gradient is 0.
    assert found.inverse_noise_scale == pytest.approx(0.0)
    labels = torch.tensor(([0] * 7 + [1]) * 2 + ([0] * 5 + [1] * 3) * 2)
    found = gradient_statistics(Bias(), images(32), labels)
    # Part gradients ∓3/8 and ∓1/8 in two coordinates: squares 0.28125 and 0.03125; their mean ∓¼: 0.125.
    assert found.squared_norm == pytest.approx(0.125)
    assert found.inverse_noise_scale == pytest.approx((4 * 0.125 - 0.15625) / (32 * (0.15625 - 0.125)))


def test_fewer_images_than_two_parts_say_nothing_of_noise() -> None:
    for count in (1, 7, 8, 15):
        found = gradient_statistics(Bias(), images(count), torch.zeros(count, dtype=torch.int64))
        assert found.squared_norm == pytest.approx(0.5)
        assert found.inverse_noise_scale == 0.0


def test_a_kernel_is_larger_for_images_that_switch_differently() -> None:
    network = nn.Sequential(nn.Flatten(), nn.ReLU())
    apart = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).reshape(2, 1, 1, 2)
    alike = torch.tensor([[1.0, -1.0], [2.0, -2.0]]).reshape(2, 1, 1, 2)
    # Kernels [[1, 0], [0, 1]] and [[1, 1], [1, 1]], each with the identity added.
    assert activation_kernel(network, apart) == pytest.approx(math.log(4) / 2)
    assert activation_kernel(network, alike) == pytest.approx(math.log(3) / 2)


def test_a_kernel_is_the_same_however_many_units_are_taken_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    network = nn.Sequential(nn.Flatten(), nn.ReLU())
    noise = torch.randn((6, 1, 1, 11), generator=torch.Generator().manual_seed(1))
    at_once = activation_kernel(network, noise)
    monkeypatch.setattr(features, "_UNITS_AT_ONCE", 4)
    assert activation_kernel(network, noise) == pytest.approx(at_once, rel=1e-12)


def test_synaptic_flow_is_the_sum_over_paths_once_per_layer() -> None:
    first, second = nn.Linear(2, 1, bias=False), nn.Linear(1, 1, bias=False)
    first.weight.data = torch.tensor([[-2.0, 3.0]])
    second.weight.data = torch.tensor([[-4.0]])
    network = nn.Sequential(nn.Flatten(), first, second)
    # Paths 2·4 and 3·4; each layer carries all 20.
    assert synaptic_flow(network, torch.zeros(1, 1, 1, 2)) == pytest.approx(math.log(40))


def test_all_features_of_a_network_are_finite_and_repeat() -> None:
    source = generated(
        image_size=8, train_images=40, validation_images=8, num_classes=4, hardness=0.2, seed=0
    )
    architecture = resnet("resnet18", source.facts.input_shape, 4, width=4)
    found = network_features(source, architecture)
    assert set(found) == {
        "log_gradient_norm",
        "inverse_gradient_noise_scale",
        "activation_kernel",
        "log_synaptic_flow",
    }
    assert all(math.isfinite(value) for value in found.values())
    assert network_features(source, architecture) == found
