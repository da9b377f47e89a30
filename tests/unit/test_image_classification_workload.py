from __future__ import annotations

import subprocess
import sys
from typing import Any

import msgspec
import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from aibench.api.workload import DatasetDescription
from aibench.architecture import Architecture, Conv, Dense, GlobalAvgPool, Input, Shape
from aibench.architecture.resnet import resnet
from workloads.image_classification import ImageClassification, ImageClassificationOptions, workload
from workloads.image_classification.model import build

IMAGENET = DatasetDescription(
    name="image_folder",
    train_images=1_281_167,
    validation_images=50_000,
    input_shape=(3, 224, 224),
    num_classes=1000,
    is_synthetic=False,
    fingerprint="0" * 64,
)


def make(**options: Any) -> ImageClassification:
    values = {"data": "digits", "initial": "resnet18", "width": 4, **options}
    return ImageClassification(msgspec.convert(values, ImageClassificationOptions))


@pytest.fixture
def described(monkeypatch: pytest.MonkeyPatch) -> list[DatasetDescription]:
    """What any data set says of itself; the list counts the openings, too."""
    descriptions = [IMAGENET]

    class Source:
        def describe(self) -> DatasetDescription:
            descriptions.append(descriptions[-1])
            return descriptions[-1]

    monkeypatch.setattr(workload, "open_source", lambda _: Source())
    return descriptions


def reference(**options: Any) -> ImageClassification:
    return make(
        **{"data": "image_folder", "data_dir": "/d", "initial": "resnet50-v1", "width": 64, **options}
    )


@pytest.mark.usefixtures("described")
class TestDepartures:
    @pytest.mark.parametrize("options", [{}, {"precision": "bf16"}, {"loader_processes": 4}])
    def test_the_reference_departs_from_nothing(self, options: dict[str, Any]) -> None:
        assert reference(**options).describe().departures == ()

    @pytest.mark.parametrize(
        ("options", "departure"),
        [
            ({"initial": "resnet50"}, "initial resnet50; reference resnet50-v1"),
            ({"width": 32}, "width 32; reference 64"),
            ({"label_smoothing": 0.0}, "label_smoothing 0.0; reference 0.1"),
            ({"momentum": 0.8}, "momentum 0.8; reference 0.9"),
            ({"weight_decay": 0.0}, "weight_decay 0.0; reference 0.0001"),
        ],
    )
    def test_every_changed_option_is_one_departure(self, options: dict[str, Any], departure: str) -> None:
        assert reference(**options).describe().departures == (departure,)

    @pytest.mark.parametrize("changed", ["train_images", "validation_images", "num_classes"])
    def test_another_image_folder_is_not_imagenet(
        self, described: list[DatasetDescription], changed: str
    ) -> None:
        described[0] = msgspec.structs.replace(IMAGENET, **{changed: 7})
        (departure,) = reference().describe().departures
        assert departure.startswith("data set image_folder (")
        assert departure.endswith(
            "; reference ImageNet-1k (1,281,167 training and 50,000 validation images, 1,000 classes)"
        )

    def test_other_data_of_the_same_size_is_not_imagenet(self) -> None:
        assert len(reference(data="cifar10").describe().departures) == 1

    def test_another_image_size_is_a_departure(self, described: list[DatasetDescription]) -> None:
        described[0] = msgspec.structs.replace(IMAGENET, input_shape=(3, 160, 160))
        assert reference().describe().departures == ("images of 3×160×160; reference 3×224×224",)


def test_departures_of_digits_name_the_real_sizes() -> None:
    assert make().describe().departures == (
        "data set digits (1,437 training and 360 validation images, 10 classes); "
        "reference ImageNet-1k (1,281,167 training and 50,000 validation images, 1,000 classes)",
        "images of 1×8×8; reference 3×224×224",
        "initial resnet18; reference resnet50-v1",
        "width 4; reference 64",
    )


def test_data_is_looked_at_once_and_not_while_constructing(described: list[DatasetDescription]) -> None:
    instance = reference()
    assert len(described) == 1
    assert instance.describe() is instance.describe()
    instance.initial_architecture()
    assert len(described) == 2


def test_the_initial_network_follows_data_and_options() -> None:
    assert make().initial_architecture() == resnet("resnet18", Shape(1, 8, 8), 10, width=4)
    synthetic = make(data="synthetic", image_size=70, synthetic_classes=4, synthetic_train_images=2, width=8)
    assert synthetic.initial_architecture() == resnet("resnet18", Shape(3, 70, 70), 4, width=8)


def test_batches_are_larger_for_image_folders() -> None:
    assert make().search_space()["batch_size"].choices == (32, 64, 128)
    assert reference().search_space()["batch_size"].choices == (256, 512, 1024)


def test_training_memory_follows_its_formula() -> None:
    architecture = Architecture(
        (
            Input(channels=3, height=8, width=8),
            Conv(inputs=(0,), channels=4, kernel=3, padding=1),
            GlobalAvgPool(inputs=(1,)),
            Dense(inputs=(2,), features=3),
        )
    )
    # 108 + 15 parameters; 192 + 256 + 4 + 3 = 455 outputs.
    assert make().training_memory_bytes(architecture, {"batch_size": 10}, 1) == 12 * 123 + 4 * 455 * 10
    assert (
        make(precision="bf16").training_memory_bytes(architecture, {"batch_size": 10}, 1)
        == 14 * 123 + 2 * 455 * 10
    )
    assert (
        make(precision="fp16").training_memory_bytes(architecture, {"batch_size": 10}, 1)
        == 14 * 123 + 2 * 455 * 10
    )
    assert make().training_memory_bytes(architecture, {"batch_size": 10}, 4) == 12 * 123 + 4 * 455 * 3


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_training_memory_covers_what_the_backward_pass_keeps(name: str) -> None:
    architecture = resnet(name, Shape(3, 32, 32), 10, width=8)
    network = build(architecture, seed=0)
    parameters = {parameter.data_ptr() for parameter in network.parameters()}
    kept: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.data_ptr() not in parameters:
            kept[tensor.data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        loss = F.cross_entropy(network(torch.zeros(8, 3, 32, 32)), torch.zeros(8, dtype=torch.int64))
    needed = [make().training_memory_bytes(architecture, {"batch_size": size}, 1) for size in (0, 8)]
    activations = needed[1] - needed[0]
    assert loss.requires_grad
    assert 0.5 < sum(kept.values()) / activations < 0.65


@pytest.mark.parametrize("data", ["digits", "synthetic"])
def test_the_masters_side_imports_neither_torch_nor_more_than_its_data_needs(data: str) -> None:
    program = f"""
import sys
from workloads.image_classification.workload import ImageClassification
from workloads.image_classification.options import ImageClassificationOptions
heavy = {{"torch", "sklearn", "PIL"}}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
workload = ImageClassification(ImageClassificationOptions(data={data!r}, initial="resnet18"))
network = workload.specialise(workload.initial_architecture(), {{"kernel_size": 5, "dropout": 0.2}})
assert workload.training_memory_bytes(network, {{"batch_size": 32}}, 1) > 0
assert workload.describe().dataset.name == {data!r}
assert workload.search_space()
assert "torch" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
