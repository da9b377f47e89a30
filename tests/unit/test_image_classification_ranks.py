from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROGRAM = Path(__file__).parent.parent / "data" / "image_classification_rank.py"
TIMEOUT_S = 300

Seen = dict[str, Any]


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> tuple[Seen, Seen]:
    """What either rank of a gang of two saw."""
    folder = tmp_path_factory.mktemp("gang")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "error", str(PROGRAM), str(rank), str(folder)],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        for process in processes:
            _, errors = process.communicate(timeout=TIMEOUT_S)
            assert process.returncode == 0, errors
    finally:
        for process in processes:
            process.kill()
    first, second = (json.loads((folder / f"rank{rank}.json").read_text()) for rank in range(2))
    return first, second


def test_both_ranks_yield_the_same_results_with_the_times_of_both(ranks: tuple[Seen, Seen]) -> None:
    first, second = ranks[0]["first"]["epochs"], ranks[1]["first"]["epochs"]
    assert first == second
    assert [result["epoch"] for result in first] == [1, 2]
    assert [len(result["ranks"]) for result in first] == [2, 2]
    assert first[0]["ranks"][0] != first[0]["ranks"][1]


def test_images_are_counted_over_both_ranks(ranks: tuple[Seen, Seen]) -> None:
    # 6 full batches of 15 out of 100 images; 33 to validate, 17 on rank 0 and 16 on rank 1.
    for result in ranks[0]["first"]["epochs"]:
        assert (result["train_images"], result["validation_images"]) == (90, 33)
        assert 0 < result["validation_correct"] <= 33


def test_waiting_for_the_other_rank_is_told_from_computing(ranks: tuple[Seen, Seen]) -> None:
    for result in ranks[0]["first"]["epochs"]:
        for times in result["ranks"]:
            assert times["communication_s"] > 0
            assert times["compute_s"] > 0


def test_both_ranks_end_with_the_same_weights_and_statistics(ranks: tuple[Seen, Seen]) -> None:
    first, second = ranks[0]["first"]["state"], ranks[1]["first"]["state"]
    assert "layers.2.running_mean" in first
    assert first == second


def test_two_ranks_with_uneven_parts_train_as_one_would(ranks: tuple[Seen, Seen]) -> None:
    together, alone = ranks[0]["without batch norm"], ranks[0]["without batch norm, alone"]
    assert together["state"].keys() == alone["state"].keys()
    for name, value in together["state"].items():
        assert flat(value) == pytest.approx(flat(alone["state"][name]), abs=1e-5), name
    losses = [result["train_loss"] for result in together["epochs"]]
    assert losses == pytest.approx([result["train_loss"] for result in alone["epochs"]], abs=1e-5)


def flat(value: Any) -> list[float]:
    return [number for part in value for number in flat(part)] if isinstance(value, list) else [value]


@pytest.mark.parametrize(
    ("trial", "problem", "open_images"),
    [
        ("build fails on rank 1", "rank 1: cannot build the network: RuntimeError: no space left", 0),
        ("diverges", "loss is nan in epoch 1: training diverged", 90),
        ("batch of three", "rank 0: batch of 3 images on 2 rank(s): expected at least 4, 2 per rank", 0),
    ],
)
def test_a_failure_is_the_same_on_both_ranks(
    ranks: tuple[Seen, Seen], trial: str, problem: str, open_images: int
) -> None:
    for seen in ranks:
        assert seen[trial]["error"] == problem
        assert seen[trial]["epochs"] == []
        assert seen[trial]["open_train_images"] == open_images


def test_the_gang_goes_on_after_failures_and_repeats_its_results(ranks: tuple[Seen, Seen]) -> None:
    first, again = ranks[0]["first"], ranks[0]["again"]
    assert again["state"] == first["state"]
    assert [result["train_loss"] for result in again["epochs"]] == [
        result["train_loss"] for result in first["epochs"]
    ]


def test_both_ranks_start_a_child_from_its_parents_weights_and_one_rank_leaves_its_own(
    ranks: tuple[Seen, Seen],
) -> None:
    first, second = (seen["child"] for seen in ranks)
    assert [result["inherited"] for result in first["epochs"] + second["epochs"]] == [True] * 4
    assert first["state"] == second["state"]
    assert first["state"] != ranks[0]["child from scratch"]["state"]
    assert ranks[0]["weights"] == ["trial-1.weights", "trial-2.weights"]


def test_a_child_starts_from_scratch_on_both_ranks_if_one_finds_no_weights(ranks: tuple[Seen, Seen]) -> None:
    for seen in ranks:
        child = seen["child whose rank 1 finds no weights"]
        assert [result["inherited"] for result in child["epochs"]] == [False, False]
        assert child["state"] == seen["child from scratch"]["state"]
