import logging
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.golden import check_golden
from support.worker_specs import worker

from aibench.api.launcher import WorkerSpec
from aibench.errors import LauncherError
from launchers import mpi
from launchers.mpi import MPICH, OPEN_MPI, MpiLauncher, MpiOptions, find_flavour

SAYS = {
    "open-mpi": "mpirun (Open MPI) 4.1.4\n\nReport bugs to http://www.open-mpi.org/community/help/",
    "open-mpi-5": "mpirun (Open MPI) 5.0.6",
    "mpich": "HYDRA build details:\n    Version:                                 5.0.2",
    "intel": "Intel(R) MPI Library for Linux* OS, Version 2021.11 Build 20231005",
}
WORKERS = [
    worker("w0", num_ranks=4),
    worker("w1", num_ranks=6, num_nodes=3),
    worker("w2", num_ranks=2, num_nodes=2, device="cpu"),
]


@pytest.fixture
def machine_file(tmp_path: Path) -> str:
    path = tmp_path / "machines"
    path.write_text("n1 slots=8\nn2 slots=4\nn3 slots=4\n")
    return str(path)


def install(folder: Path, says: str, *, status: int = 0) -> str:
    """An mpirun that only tells its version."""
    program = folder / "mpirun"
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{says}\nEND\nexit {status}\n")
    program.chmod(0o755)
    return str(program)


def launcher(mpirun: str, **options: Any) -> MpiLauncher:
    return MpiLauncher(MpiOptions(mpirun=mpirun, python="/opt/python3", **options))


def checked(made: MpiLauncher, workers: list[WorkerSpec]) -> str:
    made.check(workers)
    return "".join(f"{rendered.name}: {rendered.text}\n" for rendered in made.render(workers))


@pytest.mark.parametrize(("flavour", "user"), [("open-mpi", 0), ("open-mpi", 1000), ("mpich", 0)])
def test_commands_are_the_recorded_ones(
    flavour: str, user: int, tmp_path: Path, machine_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: user)
    monkeypatch.setattr(mpi, "python_environment", lambda: {"PYTHONPATH": "/suite", "PYTHONSAFEPATH": "1"})
    program = install(tmp_path, SAYS[flavour])
    arguments = ("--verbose", "two words")
    shown = checked(launcher(program, machine_file=machine_file, arguments=arguments), WORKERS)
    name = f"mpi/{flavour}-{'root' if user == 0 else 'user'}.txt"
    check_golden(name, shown.replace(str(tmp_path), "/site"))


def test_workers_on_this_machine_share_its_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    made = launcher(install(tmp_path, SAYS["mpich"]))
    assert "OMP_NUM_THREADS=2 " in checked(made, [worker("w0", num_ranks=3), worker("w1")])
    assert made.control_host() == "127.0.0.1"


def test_the_site_gets_one_line_for_all_workers(
    tmp_path: Path, machine_file: str, caplog: pytest.LogCaptureFixture
) -> None:
    workers = [worker(f"w{number}", num_ranks=4, num_nodes=2) for number in range(3)]
    made = launcher("no-mpirun-here", machine_file=machine_file, start="site", arguments=("--verbose",))
    line = (
        "no-mpirun-here -np 6 --verbose /opt/python3 -m aibench worker --control /run/control.json "
        "--ranks 4 --device auto --nodes 2"
    )
    assert checked(made, workers) == f"for the site's script: {line}\n"
    with caplog.at_level(logging.WARNING):
        made.start(workers)
    assert caplog.messages == [f"waiting for the workers; start them by: {line}"]
    assert made.states({}) == {}
    made.stop()


def test_a_site_line_cannot_start_workers_that_differ() -> None:
    with pytest.raises(LauncherError) as refused:
        launcher("mpirun", start="site").check([worker("w0"), worker("w1", num_ranks=2), worker("w2")])
    assert str(refused.value) == (
        "workers: 2 kinds; expected one under launcher.start: site, whose script starts all by one line"
    )


@pytest.mark.parametrize(
    ("name", "flavour"),
    [("open-mpi", OPEN_MPI), ("open-mpi-5", OPEN_MPI), ("mpich", MPICH), ("intel", MPICH)],
)
def test_the_family_is_told_by_the_version(name: str, flavour: mpi.Flavour, tmp_path: Path) -> None:
    assert find_flavour(install(tmp_path, SAYS[name])) is flavour


@pytest.mark.parametrize(
    ("says", "status", "problem"),
    [
        ("mpirun 3000\nmore", 0, "says 'mpirun 3000'; expected the words of Open MPI or MPICH"),
        ("", 0, "says ''; expected the words of Open MPI or MPICH"),
        ("Open MPI", 3, "--version did not answer (Command "),
    ],
)
def test_an_mpirun_of_no_known_family_is_one_line(
    says: str, status: int, problem: str, tmp_path: Path
) -> None:
    program = install(tmp_path, says, status=status)
    with pytest.raises(LauncherError) as refused:
        launcher(program).check([worker(device="cpu")])
    assert str(refused.value).startswith(f"launcher.mpirun: {program} {problem}")
    assert "\n" not in str(refused.value)


def test_an_absent_mpirun_is_one_line() -> None:
    with pytest.raises(LauncherError) as refused:
        launcher("no-mpirun-here").check([worker()])
    assert str(refused.value) == (
        "launcher.mpirun: 'no-mpirun-here' is not there; expected a program, by name or path"
    )


def test_the_master_listens_where_the_first_other_host_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machines = tmp_path / "machines"
    machines.write_text("localhost\n[fd00::7]:2\nn9\n")
    asked: list[str] = []

    def source_address(host: str) -> str:
        asked.append(host)
        return "fd00::1"

    monkeypatch.setattr(mpi, "source_address", source_address)
    assert launcher("mpirun", machine_file=str(machines)).control_host() == "fd00::1"
    assert asked == ["fd00::7"]


def test_a_host_that_leads_nowhere_is_one_line(tmp_path: Path) -> None:
    machines = tmp_path / "machines"
    machines.write_text("no.such.host.invalid\n")
    with pytest.raises(LauncherError) as refused:
        launcher("mpirun", machine_file=str(machines)).control_host()
    assert str(refused.value).startswith("this machine's address for no.such.host.invalid cannot be told (")
    assert str(refused.value).endswith("); give control.host")


@pytest.mark.parametrize("options", [{"start": "them"}, {"mpirun": ""}, {"machine_file": ""}, {"hosts": "a"}])
def test_unknown_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(options, MpiOptions)
