from typing import Any

import pytest

from aibench.api.workload import Gang, Progress, TrialSpec
from aibench.errors import TrialError
from workloads.synthetic import Synthetic, SyntheticOptions
from workloads.synthetic.curve import ErrorCurve

OPTIONS = SyntheticOptions(epoch_s=0.0, train_images=70, validation_images=30, classes=4, image_size=12)


def spec(**changes: Any) -> TrialSpec:
    values: dict[str, Any] = {
        "trial": 1,
        "round": 1,
        "epochs": 2,
        "architecture": Synthetic(OPTIONS).initial_architecture().to_document(),
        "hyper_parameters": {"learning_rate": 0.1, "kernel_size": 3},
        "seed": 1,
    }
    return TrialSpec(**{**values, **changes})


def curve(**changes: Any) -> ErrorCurve:
    values: dict[str, Any] = {"num_classes": 10, "learning_rate": 0.08, "train_ops": 10**9, "seed": 1}
    return ErrorCurve(**{**values, **changes})


def test_every_rank_of_the_gang_has_its_times() -> None:
    trainer = Synthetic(OPTIONS).open(Gang(rank=0, num_ranks=3, device="simulated"))
    results = list(trainer.train(spec(epochs=1), Progress()))
    assert [(len(result.ranks), result.train_images, result.validation_images) for result in results] == [
        (3, 70, 30)
    ]


def test_errors_fall_from_guessing_towards_a_floor() -> None:
    errors = [curve().error(epoch) for epoch in range(1, 61)]
    assert 0.5 < errors[0] < 0.9
    assert all(0.0 < error < 0.1 for error in errors[40:])
    assert errors == [curve().error(epoch) for epoch in range(1, 61)]


@pytest.mark.parametrize(
    ("worse", "better"),
    [
        ({"learning_rate": 0.01}, {"learning_rate": 0.05}),
        ({"learning_rate": 0.3}, {"learning_rate": 0.1}),
        ({"train_ops": 10**8}, {"train_ops": 10**10}),
    ],
)
def test_a_search_has_something_to_find(worse: dict[str, Any], better: dict[str, Any]) -> None:
    assert curve(**worse).error(60) > curve(**better).error(60)


def test_weights_of_a_parent_are_worth_a_head_start() -> None:
    assert curve().error(2, is_inherited=True) < curve().error(2)


@pytest.mark.parametrize("value", [None, 0.0, "fast"])
def test_an_unusable_learning_rate_fails_the_trial(value: Any) -> None:
    trainer = Synthetic(OPTIONS).open(Gang(rank=0, num_ranks=1, device="simulated"))
    with pytest.raises(TrialError, match=r"'learning_rate': .* expected a number above 0"):
        next(trainer.train(spec(hyper_parameters={"learning_rate": value}), Progress()))
