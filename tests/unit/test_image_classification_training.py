from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from aibench.api.workload import EpochResult, Gang, HyperParameters, Progress, Trainer, TrialSpec
from aibench.architecture import Architecture, Conv, Dense, GlobalAvgPool, Input, Shape
from aibench.architecture.resnet import resnet
from aibench.errors import TrialError
from workloads.image_classification import (
    ImageClassification,
    ImageClassificationOptions,
    model,
    trial,
)
from workloads.image_classification.data.base import ArraySource
from workloads.image_classification.data.preprocessing import DevicePreprocessing
from workloads.image_classification.hyperparameters import StepSettings
from workloads.image_classification.stepper import Stepper

GANG = Gang(rank=0, num_ranks=1, device="cpu")
TINY = Architecture(
    (
        Input(channels=3, height=8, width=8),
        Conv(inputs=(0,), channels=4, kernel=3, padding=1),
        GlobalAvgPool(inputs=(1,)),
        Dense(inputs=(2,), features=3),
    )
)
HYPER_PARAMETERS: HyperParameters = {"learning_rate": 0.1, "batch_size": 16}


class Recorder(Progress):
    """Remembers every value of the open images."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, int]] = []
        super().__init__()

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name != "seen":
            self.seen.append((name, value))


def open_trainer(**options: Any) -> Trainer:
    values = {
        "data": "synthetic",
        "initial": "resnet18",
        "image_size": 8,
        "synthetic_train_images": 40,
        "synthetic_validation_images": 20,
        "synthetic_classes": 3,
        **options,
    }
    return ImageClassification(msgspec.convert(values, ImageClassificationOptions)).open(GANG)


@pytest.fixture(scope="module")
def trainer() -> Trainer:
    return open_trainer()


def make_spec(
    architecture: Architecture = TINY, *, epochs: int = 1, seed: int = 1, **hyper_parameters: Any
) -> TrialSpec:
    return TrialSpec(
        trial=1,
        round=1,
        epochs=epochs,
        architecture=architecture.to_document(),
        hyper_parameters={**HYPER_PARAMETERS, **hyper_parameters},
        seed=seed,
    )


def train(trainer: Trainer, spec: TrialSpec) -> list[EpochResult]:
    return list(trainer.train(spec, Progress()))


def figures(results: list[EpochResult]) -> list[tuple[Any, ...]]:
    return [
        (r.epoch, r.train_images, r.validation_images, r.validation_correct, r.train_loss) for r in results
    ]


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[nn.Module]:
    """Every network that is built from here on."""
    networks: list[nn.Module] = []

    def note(architecture: Architecture, *, seed: int) -> nn.Module:
        networks.append(model.build(architecture, seed=seed))
        return networks[-1]

    monkeypatch.setattr(trial, "build", note)
    return networks


def test_digits_are_learned_and_counts_are_those_really_processed() -> None:
    options = ImageClassificationOptions(data="digits", initial="resnet18", width=8)
    trainer = ImageClassification(options).open(GANG)
    architecture = resnet("resnet18", Shape(1, 8, 8), 10, width=8)
    progress = Recorder()
    spec = make_spec(architecture, epochs=2, learning_rate=0.05, batch_size=64)
    first, second = trainer.train(spec, progress)
    # 22 full batches of 64 out of 1,437 images.
    assert (first.epoch, first.train_images, first.validation_images) == (1, 1408, 360)
    assert (second.epoch, second.train_images, second.validation_images) == (2, 1408, 360)
    assert second.train_loss < first.train_loss
    assert second.validation_correct > 180
    steps = [value for name, value in progress.seen if name == "train_images" and value]
    assert steps == 2 * [64 * step for step in range(1, 23)]
    assert (progress.train_images, progress.validation_images) == (0, 0)


def test_open_images_of_validation_reach_the_whole_set(trainer: Trainer) -> None:
    progress = Recorder()
    list(trainer.train(make_spec(), progress))
    assert [v for name, v in progress.seen if name == "validation_images" and v] == [16, 20]


def test_an_interrupted_epoch_leaves_its_images_open(
    trainer: Trainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial.TrialRun, "_validate", lambda *_: 1 / 0)
    progress = Progress(train_images=5, validation_images=5)
    with pytest.raises(ZeroDivisionError):
        list(trainer.train(make_spec(), progress))
    assert (progress.train_images, progress.validation_images) == (32, 0)


def test_a_batch_larger_than_the_training_set_is_cut_to_it(trainer: Trainer) -> None:
    (result,) = train(trainer, make_spec(batch_size=64))
    assert result.train_images == 40


def test_the_same_seed_gives_the_same_result_and_another_another(
    trainer: Trainer, built: list[nn.Module]
) -> None:
    architecture = resnet("resnet18", Shape(3, 8, 8), 3, width=2)
    specs = [make_spec(architecture, epochs=2, seed=seed) for seed in (5, 5, 6)]
    first, again, other = (figures(train(trainer, spec)) for spec in specs)
    weights = [torch.cat([p.flatten() for p in network.parameters()]) for network in built]
    assert first == again
    assert torch.equal(weights[0], weights[1])
    assert first != other


def test_dropout_follows_the_seed(trainer: Trainer) -> None:
    workload = ImageClassification(ImageClassificationOptions(data="digits", initial="resnet18"))
    architecture = workload.specialise(TINY, {"dropout": 0.5})

    def losses(seed: int) -> list[float]:
        torch.rand(seed)  # the state of the process must not matter
        return [
            r.train_loss for r in train(trainer, make_spec(architecture, epochs=2, seed=seed, dropout=0.5))
        ]

    assert losses(1) == losses(1)
    assert losses(1) != losses(2)
    assert losses(1) != [r.train_loss for r in train(trainer, make_spec(epochs=2))]


def test_the_learning_rate_falls_linearly_over_the_whole_trial(
    trainer: Trainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates: list[float] = []
    step = torch.optim.SGD.step

    def note(self: torch.optim.SGD, *args: Any, **kwargs: Any) -> Any:
        rates.append(self.param_groups[0]["lr"])
        return step(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.SGD, "step", note)
    train(trainer, make_spec(epochs=2, learning_rate=0.4))
    assert rates == pytest.approx([0.4, 0.3, 0.2, 0.1])


def test_regularisation_comes_from_the_options(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, float] = {}
    cross_entropy = F.cross_entropy

    def loss(*args: Any, **kwargs: Any) -> Any:
        seen["label_smoothing"] = kwargs["label_smoothing"]
        return cross_entropy(*args, **kwargs)

    step = torch.optim.SGD.step

    def note(self: torch.optim.SGD, *args: Any, **kwargs: Any) -> Any:
        seen.update({name: self.param_groups[0][name] for name in ("momentum", "weight_decay")})
        return step(self, *args, **kwargs)

    monkeypatch.setattr(F, "cross_entropy", loss)
    monkeypatch.setattr(torch.optim.SGD, "step", note)
    train(open_trainer(label_smoothing=0.2, momentum=0.7, weight_decay=0.003), make_spec())
    assert seen == {"label_smoothing": 0.2, "momentum": 0.7, "weight_decay": 0.003}


def test_a_step_follows_the_mean_gradient_of_its_images() -> None:
    architecture = Architecture((Input(channels=1, height=1, width=1), Dense(inputs=(0,), features=2)))
    network = model.build(architecture, seed=0)
    nn.init.zeros_(network.layers[1].weight)  # type: ignore[arg-type]
    options = ImageClassificationOptions(
        data="digits", initial="resnet18", label_smoothing=0.0, weight_decay=0.0
    )
    steps = Stepper(
        network,
        options=options,
        settings=StepSettings(learning_rate=0.1, batch_size=2),
        num_steps=10,
        gang=GANG,
    )
    loss, exposed_s = steps.step(torch.tensor([1.0, 3.0]).reshape(2, 1, 1, 1), torch.tensor([0, 0]))
    # Both classes have probability ½: gradients by logit are ∓½, by weight ∓½·1 and ∓½·3, in the mean ∓1.
    assert loss.item() == pytest.approx(2 * 0.693147)
    assert exposed_s == 0.0
    state = network.state_dict()
    assert state["layers.1.weight"].flatten().tolist() == pytest.approx([0.1, -0.1])
    assert state["layers.1.bias"].tolist() == pytest.approx([0.05, -0.05])


def test_every_epoch_of_every_seed_has_its_own_order(
    trainer: Trainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    orders: list[tuple[int, ...]] = []
    train_batches = ArraySource.train_batches

    def note(self: ArraySource, plan: list[Any], *, seed: int) -> Any:
        orders.append(tuple(int(image) for step in plan for image in step))
        return train_batches(self, plan, seed=seed)

    monkeypatch.setattr(ArraySource, "train_batches", note)
    for seed in (1, 2, 1):
        train(trainer, make_spec(epochs=2, seed=seed, batch_size=40))
    assert len(set(orders[:4])) == 4
    assert orders[4:] == orders[:2]
    assert [sorted(order) for order in orders] == [list(range(40))] * 6


def test_training_images_are_augmented_anew_in_every_epoch_and_validation_images_never(
    trainer: Trainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds: list[int] = []
    trained: list[float] = []
    step = Stepper.step

    def blacken(_: Any, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        seeds.append(generator.initial_seed())
        return torch.zeros_like(images)

    def note(self: Stepper, images: torch.Tensor, labels: torch.Tensor) -> Any:
        trained.extend(set(images.flatten().tolist()))
        return step(self, images, labels)

    monkeypatch.setattr(DevicePreprocessing, "augment", blacken)
    monkeypatch.setattr(Stepper, "step", note)
    train(trainer, make_spec(epochs=2))
    # Two steps an epoch, all black: (0 - 127) / 52.25.
    assert trained == pytest.approx([-127 / 52.25] * 4)
    assert seeds[0] == seeds[1] != seeds[2] == seeds[3]


@pytest.mark.parametrize(
    ("precision", "computed_in"),
    [("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)],
)
def test_precision_is_that_of_convolutions_while_weights_stay_in_fp32(
    precision: str, computed_in: torch.dtype, built: list[nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: set[torch.dtype] = set()
    conv2d = nn.Conv2d.forward

    def note(self: nn.Conv2d, x: torch.Tensor) -> torch.Tensor:
        output = conv2d(self, x)
        seen.add(output.dtype)
        return output

    monkeypatch.setattr(nn.Conv2d, "forward", note)
    (result,) = train(open_trainer(precision=precision), make_spec())
    assert seen == {computed_in}
    assert {parameter.dtype for parameter in built[0].parameters()} == {torch.float32}
    assert result.train_images == 32


@pytest.mark.usefixtures("trainer")
def test_fp32_is_not_silently_tf32() -> None:
    assert torch.backends.cudnn.conv.fp32_precision == "ieee"  # type: ignore[attr-defined]
    assert torch.backends.cuda.matmul.fp32_precision == "ieee"


def test_times_of_one_rank_cover_its_phases(trainer: Trainer) -> None:
    first, second = train(trainer, make_spec(epochs=2))
    (start,), (later,) = first.ranks, second.ranks
    assert start.startup_s > 0
    assert later.startup_s == 0
    for times in (start, later):
        assert min(times.compute_s, times.data_wait_s, times.validation_s) > 0
        assert times.communication_s == 0.0


def test_a_finished_trial_leaves_no_network_behind(trainer: Trainer, built: list[nn.Module]) -> None:
    train(trainer, make_spec())  # what torch imports on first use holds on to frames
    built.clear()
    gc.disable()
    try:
        train(trainer, make_spec())
        reference = weakref.ref(built.pop())
        assert reference() is None
    finally:
        gc.enable()


def test_a_loss_that_is_not_finite_fails_the_trial(trainer: Trainer) -> None:
    with pytest.raises(TrialError, match="loss is nan in epoch 1: training diverged"):
        train(trainer, make_spec(learning_rate=1e30))


@pytest.mark.parametrize(
    ("method", "problem"),
    [
        ("train_batches", "epoch 1 processed no training images"),
        ("validation_batches", "validation processed no images"),
    ],
)
def test_processing_nothing_fails_the_trial(
    trainer: Trainer, monkeypatch: pytest.MonkeyPatch, method: str, problem: str
) -> None:
    def nothing(*_: Any, **__: Any) -> Iterator[Any]:
        return iter(())

    monkeypatch.setattr(ArraySource, method, nothing)
    with pytest.raises(TrialError, match=problem):
        train(trainer, make_spec())


@pytest.mark.parametrize(
    ("hyper_parameters", "problem"),
    [
        ({"batch_size": 8}, "'learning_rate': missing"),
        ({"learning_rate": 0.1}, "'batch_size': missing"),
        ({**HYPER_PARAMETERS, "momentum": 0.9}, "'momentum': unknown, expected learning_rate, batch_size,"),
        ({**HYPER_PARAMETERS, "learning_rate": 0.0}, "'learning_rate': 0.0, expected a number above 0"),
        ({**HYPER_PARAMETERS, "learning_rate": "fast"}, "'learning_rate': 'fast', expected a number"),
        ({**HYPER_PARAMETERS, "batch_size": 8.5}, "'batch_size': 8.5, expected a whole number above 0"),
        ({**HYPER_PARAMETERS, "batch_size": 0}, "'batch_size': 0, expected"),
        ({**HYPER_PARAMETERS, "batch_size": 1}, r"batch of 1 images on 1 rank\(s\): expected at least 2"),
        ({**HYPER_PARAMETERS, "kernel_size": 5}, "the network is not the one its hyper-parameters lead to"),
        ({**HYPER_PARAMETERS, "kernel_size": 4}, "kernel_size 4: expected an odd whole number"),
    ],
)
def test_unusable_hyper_parameters_fail_the_trial(
    trainer: Trainer, hyper_parameters: HyperParameters, problem: str
) -> None:
    spec = msgspec.structs.replace(make_spec(), hyper_parameters=hyper_parameters)
    with pytest.raises(TrialError, match=problem):
        train(trainer, spec)


def test_a_network_for_other_images_or_classes_fails_the_trial(trainer: Trainer) -> None:
    other = resnet("resnet18", Shape(1, 8, 8), 10, width=1)
    with pytest.raises(TrialError, match="network maps 1×8×8 to 10×1×1, expected 3×8×8 to 3×1×1"):
        train(trainer, make_spec(other))


def test_whatever_goes_wrong_while_building_fails_the_trial(
    trainer: Trainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("no space\nleft")

    monkeypatch.setattr(trial, "build", fail)
    with pytest.raises(TrialError, match=r"^cannot build the network: RuntimeError: no space left$"):
        train(trainer, make_spec())


def test_running_out_of_memory_fails_the_trial(trainer: Trainer, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("tried to allocate too much")

    monkeypatch.setattr(F, "cross_entropy", fail)
    with pytest.raises(TrialError, match="cpu is out of memory: tried to allocate too much"):
        train(trainer, make_spec())
