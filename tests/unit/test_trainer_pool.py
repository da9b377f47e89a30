from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from aibench import trainer_pool
from aibench.api.events import Lineage
from aibench.architecture import Shape
from aibench.architecture.resnet import resnet
from aibench.counting import count
from aibench.errors import TrainerError
from aibench.search.evaluator import ContestTrial, Training, TrialResult, TrialWork
from aibench.search.search import Candidate
from aibench.trainer_pool import PoolSettings, TrainerPool, TrialRecord

INITIAL = resnet("resnet18", Shape(3, 8, 8), 10, width=4)
OPS = count(INITIAL).aiperf_ops
WORK = TrialWork(train_images=10, validation_images=100, epochs=2)
CANDIDATE = Candidate(
    architecture=INITIAL, lineage=Lineage(origin="initial"), hyper_parameters={"learning_rate": 0.1}
)
FAKE = Path(__file__).parents[1] / "data" / "fake_trainer.py"


@pytest.fixture(autouse=True)
def fake_trainer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer_pool, "TRAINER_ARGV", (sys.executable, str(FAKE)))


def trial(number: int, *, seed: int = 40) -> ContestTrial:
    return ContestTrial(algorithm="random", seed=seed, number=number, candidate=CANDIDATE)


@contextmanager
def pool(
    folder: Path, *, plan: str = "", problem: str = "", num_jobs: int = 1
) -> Iterator[tuple[TrainerPool, list[TrialRecord]]]:
    records: list[TrialRecord] = []
    settings = PoolSettings(
        workload="any",
        workload_options={"plan": plan, "problem": problem},
        device="cpu",
        num_jobs=num_jobs,
        work=WORK,
        warm_up=CANDIDATE,
        log_dir=folder,
    )
    with TrainerPool(settings, records.append) as opened:
        yield opened, records


def children() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if str(FAKE) in child.cmdline()]


def test_a_trial_is_trained_with_the_seed_of_its_course_and_number(tmp_path: Path) -> None:
    with pool(tmp_path, plan="well") as (opened, records):
        running = opened.begin(trial(2))
        # 42 of 100 images right: what the fake makes of the seed.
        processed_ops = 2 * (8 * OPS.train + 100 * OPS.forward)
        assert running.result.result() == TrialResult(0.58, Training(processed_ops, 0.5))
        assert running.ops == 2 * (10 * OPS.train + 100 * OPS.forward)
    assert records == [
        TrialRecord(
            algorithm="random",
            seed=40,
            trial=2,
            ops=running.ops,
            processed_ops=processed_ops,
            error=0.58,
            reason="",
            train_s=0.5,
            architecture_hash=INITIAL.content_hash,
            hyper_parameters={"learning_rate": 0.1},
        )
    ]


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("fails", "no luck"),
        (
            "miscounts",
            f"a network of {count(INITIAL).parameters + 1} parameters was trained, "
            f"{count(INITIAL).parameters} were counted",
        ),
    ],
)
def test_a_failed_trial_has_no_error_costs_as_a_whole_and_the_next_goes_on(
    word: str, reason: str, tmp_path: Path
) -> None:
    with pool(tmp_path, plan=f"{word} well") as (opened, records):
        first, second = opened.begin(trial(1)), opened.begin(trial(2))
        assert first.result.result().error is None
        assert second.result.result().error == 0.58
        assert first.ops == second.ops
    assert [record.reason for record in records] == [reason, ""]


def test_a_child_that_dies_ends_the_comparison_in_one_line(tmp_path: Path) -> None:
    with pool(tmp_path, plan="dies") as (opened, _):
        first, second = opened.begin(trial(1)), opened.begin(trial(2))
        log = tmp_path / "trainer-0.log"
        problem = f"a training process ended with status 9; its output is in {log}"
        for running in (first, second):
            with pytest.raises(TrainerError) as caught:
                running.result.result()
            assert str(caught.value) == problem
    assert log.read_text() == "out of luck\n"


def test_ten_failures_at_once_are_not_the_candidates_fault(tmp_path: Path) -> None:
    with pool(tmp_path, plan="fails " * 10) as (opened, records):
        running = [opened.begin(trial(number)) for number in range(1, 11)]
        assert [one.result.result().error for one in running[:9]] == [None] * 9
        with pytest.raises(
            TrainerError, match=r"^10 trials in a row failed before their first epoch; the last: no luck$"
        ):
            running[9].result.result()
        assert len(records) == 10


def test_a_workload_that_cannot_be_opened_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(TrainerError, match=r"^no data here$"), pool(tmp_path, problem="no data here"):
        pass
    assert children() == []


def test_leaving_ends_children_amid_a_trial(tmp_path: Path) -> None:
    with pool(tmp_path, plan="hangs", num_jobs=2) as (opened, records):
        for number in range(1, 6):
            opened.begin(trial(number))
        assert len(children()) == 2
    assert children() == []
    assert records == []


def test_jobs_share_the_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(7)))
    with pool(tmp_path, num_jobs=2) as (opened, _):
        assert [device.name for device in opened.devices] == ["3", "3"]
