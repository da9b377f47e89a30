"""Analytic counting against torch's FlopCounterMode, side by side in one run."""

import time
from collections.abc import Callable

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from aibench.architecture import Architecture, Shape
from aibench.architecture.resnet import resnet
from aibench.counting import count
from workloads.image_classification.model import Network

pytestmark = pytest.mark.bench

ANALYTIC_ROUNDS = 1000
TRACED_ROUNDS = 5


def rate_per_s(work: Callable[[], object], rounds: int) -> float:
    work()
    began = time.perf_counter()
    for _ in range(rounds):
        work()
    return rounds / (time.perf_counter() - began)


def test_counting_a_resnet50_against_flop_counter_mode() -> None:
    network = resnet("resnet50-v1", Shape(3, 224, 224), 1000)
    document = network.to_json()
    image = torch.empty(1, 3, 224, 224, device="meta")

    def traced() -> None:
        with torch.device("meta"):
            model = Network(network)
        with FlopCounterMode(display=False) as counter:
            model(image).sum().backward()
        assert counter.get_total_flops() == count(network).tensor_flops.train

    slow = rate_per_s(traced, TRACED_ROUNDS)
    checked = rate_per_s(lambda: count(Architecture(network.nodes)), ANALYTIC_ROUNDS)
    counted = rate_per_s(lambda: count(network), ANALYTIC_ROUNDS)
    decoded = rate_per_s(lambda: count(Architecture.from_json(document)), ANALYTIC_ROUNDS)
    print()
    print(f"FlopCounterMode on meta tensors   {slow:8.1f} networks/s   1 ×")
    for label, rate in (("count", counted), ("check + count", checked), ("from JSON + count", decoded)):
        print(f"{label:32}  {rate:8.1f} networks/s   {rate / slow:.0f} ×")
