from __future__ import annotations

import pytest

from aibench.architecture import Architecture, Conv, MaxPool, Shape
from aibench.architecture.resnet import NAMES, resnet
from aibench.counting import count
from aibench.errors import ArchitectureError

IMAGENET = Shape(3, 224, 224)
CIFAR = Shape(3, 32, 32)


def first_of_second_stage(network: Architecture) -> list[tuple[int, int]]:
    """Kernel and stride of the three convolutions that first reach the second stage's 28×28 maps."""
    convs = [node for node in network.nodes if type(node) is Conv]
    return [(conv.kernel, conv.stride) for conv in convs[11:14]]


# Parameters as torchvision's documentation gives them for 1000 classes.
@pytest.mark.parametrize("suffix", ["", "-v1"])
@pytest.mark.parametrize(
    ("depth", "parameters"),
    [(18, 11_689_512), (34, 21_797_672), (50, 25_557_032), (101, 44_549_160), (152, 60_192_808)],
)
def test_imagenet_networks_have_the_published_number_of_parameters(
    depth: int, parameters: int, suffix: str
) -> None:
    network = resnet(f"resnet{depth}{suffix}", IMAGENET, 1000)
    assert count(network).parameters == parameters
    assert network.output_shape == Shape(1000, 1, 1)


def test_the_small_image_network_has_the_usual_number_of_parameters() -> None:
    assert count(resnet("resnet18", CIFAR, 10)).parameters == 11_173_962


def test_version_1_strides_in_the_first_1x1_convolution() -> None:
    assert first_of_second_stage(resnet("resnet50-v1", IMAGENET, 1000)) == [(1, 2), (3, 1), (1, 1)]


def test_version_1_5_strides_in_the_3x3_convolution() -> None:
    assert first_of_second_stage(resnet("resnet50", IMAGENET, 1000)) == [(1, 1), (3, 2), (1, 1)]


@pytest.mark.parametrize("depth", [18, 34])
def test_basic_blocks_are_the_same_in_both_versions(depth: int) -> None:
    assert resnet(f"resnet{depth}", CIFAR, 10) == resnet(f"resnet{depth}-v1", CIFAR, 10)


def test_large_images_get_the_7x7_stem_and_a_max_pool() -> None:
    network = resnet("resnet18", IMAGENET, 1000)
    assert network.nodes[1] == Conv(inputs=(0,), channels=64, kernel=7, stride=2, padding=3)
    assert network.nodes[4] == MaxPool(inputs=(3,), kernel=3, stride=2, padding=1)
    assert network.shapes[4] == Shape(64, 56, 56)


@pytest.mark.parametrize(
    ("input_shape", "is_small"),
    [(Shape(3, 64, 64), True), (Shape(3, 65, 64), False), (Shape(3, 64, 65), False)],
)
def test_images_up_to_64_pixels_get_the_small_stem(input_shape: Shape, is_small: bool) -> None:
    network = resnet("resnet18", input_shape, 10)
    assert any(type(node) is MaxPool for node in network.nodes) is not is_small
    stem = network.nodes[1]
    assert isinstance(stem, Conv)
    assert stem.kernel == (3 if is_small else 7)


def test_the_last_stage_of_a_small_image_is_an_eighth_of_its_side() -> None:
    assert resnet("resnet18", CIFAR, 10).shapes[-3] == Shape(512, 4, 4)
    assert resnet("resnet50", CIFAR, 10).shapes[-3] == Shape(2048, 4, 4)


def test_width_scales_every_stage() -> None:
    network = resnet("resnet18", Shape(1, 8, 8), 10, width=4)
    convs = [node for node in network.nodes if type(node) is Conv]
    assert convs[0].channels == 4
    assert network.shapes[-3] == Shape(32, 1, 1)


@pytest.mark.parametrize(
    "name", ["resnet", "resnet20", "resnet50-v2", "ResNet50", " resnet50", "resnet50-v1.5"]
)
def test_an_unknown_name_lists_the_known_ones(name: str) -> None:
    with pytest.raises(ArchitectureError) as caught:
        resnet(name, CIFAR, 10)
    assert str(caught.value) == (
        f"architecture {name!r}: expected one of resnet18, resnet18-v1, resnet34, resnet34-v1, resnet50, "
        "resnet50-v1, resnet101, resnet101-v1, resnet152, resnet152-v1"
    )


def test_every_listed_name_can_be_built() -> None:
    assert len(NAMES) == 10
    assert {resnet(name, CIFAR, 10).output_shape for name in NAMES} == {Shape(10, 1, 1)}
