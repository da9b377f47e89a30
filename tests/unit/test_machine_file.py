import os
import socket
from pathlib import Path
from typing import Any

import pytest
from support.worker_specs import worker

from aibench.errors import LauncherError
from launchers.machine_file import Seat, is_here, read_machines, share_out, this_machine


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "machines"
    path.write_text(text)
    return path


def test_the_habits_of_open_mpi_and_mpich_are_understood(tmp_path: Path) -> None:
    text = """# the machine room
    n1 slots=8          # Open MPI
    n2 slots = 4 max_slots=16
    n3.site.org:2
    10.0.0.4
    n5
    n5

    [fd00::6]:3
    n1
    """
    assert read_machines(write(tmp_path, text)) == {
        "n1": 9,
        "n2": 4,
        "n3.site.org": 2,
        "10.0.0.4": 1,
        "n5": 2,
        "[fd00::6]": 3,
    }


@pytest.mark.parametrize(
    "line", ["n1 slots=0", "n1 slots=x", "n1:0", "n1:", "n1 n2", "n1:2 slots=2", "slots=2", "-n1 --x", "n;1"]
)
def test_a_line_that_is_neither_is_named_by_its_number(tmp_path: Path, line: str) -> None:
    path = write(tmp_path, f"n0\n# a comment\n{line}\n")
    with pytest.raises(LauncherError) as refused:
        read_machines(path)
    assert str(refused.value) == (
        f"launcher.machine_file: {path} line 3: got {line!r}; "
        "expected HOST, HOST slots=N or HOST:N, N from 1 on"
    )


@pytest.mark.parametrize(
    ("content", "problem"),
    [(None, "cannot be read"), (b"", "lists no host"), (b"# n1\n", "lists no host"), (b"\xff", "cannot be")],
)
def test_a_file_without_hosts_is_refused(tmp_path: Path, content: bytes | None, problem: str) -> None:
    path = tmp_path / "machines"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(LauncherError, match=problem) as refused:
        read_machines(path)
    assert str(path) in str(refused.value)


def test_this_machine_has_a_slot_for_every_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 3, 5})
    assert this_machine() == {"localhost": 3}


def test_workers_get_devices_of_their_own_on_the_first_hosts_with_room() -> None:
    workers = [
        worker("w0", num_ranks=3),
        worker("w1", num_ranks=2),
        worker("w2", num_ranks=2, num_nodes=2),
        worker("w3"),
    ]
    assert share_out(workers, {"a": 4, "b": 4, "c": 4}) == {
        "w0": [Seat("a", 0)],
        "w1": [Seat("b", 0)],
        "w2": [Seat("a", 3), Seat("b", 2)],
        "w3": [Seat("b", 3)],
    }


def test_workers_that_may_share_devices_go_where_most_room_is() -> None:
    workers = [worker(f"w{number}", num_ranks=3, oversubscribe=True) for number in range(4)]
    seats = share_out(workers, {"a": 4, "b": 2})
    assert seats == {"w0": [Seat("a", 0)], "w1": [Seat("b", 0)], "w2": [Seat("a", 3)], "w3": [Seat("b", 3)]}


@pytest.mark.parametrize(
    ("asked", "problem"),
    [
        (
            {"num_ranks": 3},
            "worker w1: 3 ranks need 3 free slots on each of 1 hosts; the workers before it use 2 of the 4 "
            "slots on 2 hosts (or oversubscribe: true)",
        ),
        (
            {"num_ranks": 3, "num_nodes": 3, "oversubscribe": True},
            "worker w1: 3 ranks need 1 free slots on each of 3 hosts; the workers before it use 2 of the 4 "
            "slots on 2 hosts",
        ),
    ],
)
def test_what_does_not_fit_is_refused(asked: dict[str, Any], problem: str) -> None:
    with pytest.raises(LauncherError) as refused:
        share_out([worker("w0", num_ranks=2), worker("w1", **asked)], {"a": 2, "b": 2})
    assert str(refused.value) == problem


def test_this_machine_is_known_by_its_names_and_addresses() -> None:
    assert all(map(is_here, ["localhost", "127.0.0.1", "[::1]", socket.gethostname()]))
    assert not any(map(is_here, ["192.0.2.250", "no.such.host.invalid"]))
