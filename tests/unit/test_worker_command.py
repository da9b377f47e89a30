from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from aibench.cli import main
from aibench.worker import agent, meeting, placement
from aibench.worker.placement import Place
from aibench.worker.settings import WorkerSettings


@pytest.fixture
def become(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the command became, instead of becoming it; meetings are the place that they were arranged by."""
    became: list[Any] = []
    monkeypatch.setattr(agent, "become_gang", lambda *what: became.append(what))
    monkeypatch.setattr(meeting, "arrange_meeting", lambda _, place, __: place)
    return became


def start(monkeypatch: pytest.MonkeyPatch, place: Place | None, *arguments: str) -> str:
    monkeypatch.setattr(placement, "find_place", lambda _: place)
    done = CliRunner().invoke(main, ["worker", "--control", "c.json", *arguments], prog_name="aibench")
    assert done.exit_code == (2 if done.stderr else 0)
    return done.stderr


def settings(**changes: Any) -> WorkerSettings:
    values: dict[str, Any] = {"worker": "w0", "num_ranks": 1, "device": "auto", "first_device": 0}
    return WorkerSettings(control_file=Path("c.json"), **{**values, **changes})


def test_a_named_worker_asks_nobody_who_it_is(become: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place(engine="Open MPI", rank=3, size=4, local_rank=3)
    assert start(monkeypatch, place, "--worker", "w7", "--ranks", "2", "--first-device", "4") == ""
    assert become == [(settings(worker="w7", num_ranks=2, first_device=4), None)]


def test_an_unnamed_worker_is_its_rank_with_devices_behind_those_of_its_neighbours(
    become: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Place(engine="Open MPI", rank=5, size=6, local_rank=1)
    assert start(monkeypatch, place, "--ranks", "4") == ""
    assert become == [(settings(worker="w5", num_ranks=4, first_device=4), None)]


@pytest.mark.parametrize(("rank", "worker"), [(0, "w0"), (1, "w0"), (2, "w1"), (3, "w1")])
def test_nodes_of_unnamed_workers_follow_one_another(
    become: list[Any], monkeypatch: pytest.MonkeyPatch, rank: int, worker: str
) -> None:
    place = Place(engine="PMIx", rank=rank)
    assert start(monkeypatch, place, "--ranks", "4", "--nodes", "2") == ""
    assert become == [(settings(worker=worker, num_ranks=4, num_nodes=2), place)]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ([], "give --worker or --pool; only a process of mpirun or srun can do without"),
        (["--worker", "w0", "--pool", "p0"], "give either --worker or --pool"),
        (["--ranks", "3", "--nodes", "2"], "--nodes 2: expected a divisor of --ranks 3, and no --pool"),
        (
            ["--pool", "p0", "--ranks", "2", "--nodes", "2"],
            "--nodes 2: expected a divisor of --ranks 2, and no --pool",
        ),
        (
            ["--worker", "w0", "--ranks", "2", "--nodes", "2"],
            "a worker on 2 nodes is started once on each of them, by mpirun or srun, or with "
            "AIBENCH_NODE_RANK set; neither is the case",
        ),
    ],
)
def test_a_worker_that_cannot_know_who_it_is_says_so_in_one_line(
    become: list[Any], monkeypatch: pytest.MonkeyPatch, arguments: list[str], problem: str
) -> None:
    said = start(monkeypatch, None, *arguments)
    assert said.startswith(f"aibench: {problem}")
    assert said.count("\n") == 1
    assert become == []
