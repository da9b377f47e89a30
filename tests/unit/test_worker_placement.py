import builtins
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from aibench.errors import LauncherError
from aibench.worker import placement
from aibench.worker.placement import Place, find_place, node_place

# Recorded by the command in each name.
RECORDED: dict[str, list[dict[str, str]]] = json.loads(
    (Path(__file__).parents[1] / "data" / "engine_environments.json").read_text()
)
OPEN_MPI, MPICH, STEP, PMI2, PMIX, BATCH = RECORDED.values()


@pytest.fixture(autouse=True)
def without_mpi4py(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "_ask_mpi", lambda: None)


@pytest.mark.parametrize(
    ("environments", "places"),
    [
        (
            OPEN_MPI,
            [
                Place(engine="Open MPI", rank=0, size=4, local_rank=0, life="1901395969"),
                Place(engine="Open MPI", rank=3, size=4, local_rank=1, life="1901395969"),
            ],
        ),
        (
            MPICH,
            [
                Place(engine="PMI", rank=0, size=2, local_rank=0),
                Place(engine="PMI", rank=1, size=2, local_rank=1),
            ],
        ),
        (
            STEP,
            [
                Place(engine="SLURM", rank=0, size=2, local_rank=0, life="1.0"),
                Place(engine="SLURM", rank=1, size=2, local_rank=0, life="1.0"),
            ],
        ),
        (
            PMI2,
            [
                Place(engine="SLURM", rank=0, size=2, local_rank=0, life="4.0"),
                Place(engine="SLURM", rank=1, size=2, local_rank=0, life="4.0"),
            ],
        ),
        (PMIX, [Place(engine="SLURM", rank=1, size=2, local_rank=0, life="3.0")]),
        (BATCH, [None]),
        ([{}], [None]),
    ],
)
def test_the_place_is_read_from_what_engines_set(
    environments: list[dict[str, str]], places: list[Place | None]
) -> None:
    assert [find_place(environment) for environment in environments] == places


def test_pmix_alone_tells_a_rank() -> None:
    environment = {"PMIX_NAMESPACE": "prterun-7", "PMIX_RANK": "3"}
    assert find_place(environment) == Place(engine="PMIx", rank=3, life="prterun-7")


@pytest.mark.parametrize("by_mpi", [OPEN_MPI[1], {"PMI_RANK": "3", "PMI_SIZE": "4"}])
def test_mpirun_in_a_step_knows_better_than_the_step(by_mpi: dict[str, str]) -> None:
    place = find_place({**STEP[1], **by_mpi})
    assert place is not None
    assert (place.rank, place.size) == (3, 4)


def test_a_requeued_job_lives_anew() -> None:
    place = find_place({**STEP[0], "SLURM_RESTART_COUNT": "2"})
    assert place is not None
    assert place.life == "1.0.2"


def test_nodes_of_a_gang_are_the_processes_that_the_engine_started() -> None:
    assert [node_place(environment, 2).rank for environment in STEP] == [0, 1]
    assert node_place({**STEP[1], "AIBENCH_NODE_RANK": "0"}, 2).rank == 0


@pytest.mark.parametrize(
    ("environment", "problem"),
    [
        ({}, "a worker on 2 nodes is started once on each of them, by mpirun or srun, or with "),
        (OPEN_MPI[0], "Open MPI started 4 process(es) for a worker on 2 nodes; expected one on each"),
        ({"AIBENCH_NODE_RANK": "2"}, "AIBENCH_NODE_RANK: got '2'; expected 0 to 1 for a worker on 2 nodes"),
        ({"AIBENCH_NODE_RANK": "-1"}, "AIBENCH_NODE_RANK: got '-1'; expected 0 to 1"),
        ({"AIBENCH_NODE_RANK": ""}, "AIBENCH_NODE_RANK: got ''; expected 0 to 1"),
    ],
)
def test_a_node_that_cannot_be_told_is_refused(environment: dict[str, str], problem: str) -> None:
    with pytest.raises(LauncherError) as refused:
        node_place(environment, 2)
    assert str(refused.value).startswith(problem)


class FakeMpi:
    def __init__(self, rank: int, size: int) -> None:
        self.is_left = False
        self.COMM_WORLD = SimpleNamespace(Get_rank=lambda: rank, Get_size=lambda: size)

    def Finalize(self) -> None:
        self.is_left = True


@pytest.mark.parametrize(
    ("rank", "size", "place"), [(2, 4, Place(engine="MPI", rank=2, size=4)), (0, 1, None)]
)
def test_an_mpi_that_sets_no_known_variable_is_asked_and_left_again(
    rank: int, size: int, place: Place | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    mpi = FakeMpi(rank, size)
    monkeypatch.setitem(sys.modules, "mpi4py", SimpleNamespace(MPI=mpi))
    assert find_place({}) == place
    assert mpi.is_left


@pytest.mark.parametrize("error", [ModuleNotFoundError("mpi4py"), RuntimeError("cannot load MPI library")])
def test_without_mpi4py_or_its_library_a_process_was_started_alone(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    real_import = builtins.__import__

    def fail(name: str, *arguments: Any) -> Any:
        if name == "mpi4py":
            raise error
        return real_import(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", fail)
    assert find_place({}) is None
