import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from support.programs import program

from aibench.api.host import MasterOrder
from aibench.api.launcher import WorkerSpec, WorkerState
from launchers.slurm import SlurmLauncher
from launchers.slurm_options import SlurmOptions
from launchers.slurm_script import MASTER_VARIABLE, master_script

NUM_WORKERS = 100


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that comes first in PATH, for programs in the place of SLURM's."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("SLURM_CONF", "SLURM_JOB_ID", MASTER_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return folder


def workers(folder: Path, count: int = NUM_WORKERS) -> list[WorkerSpec]:
    return [
        WorkerSpec(
            run="many",
            worker=f"w{number}",
            pool="p0",
            num_ranks=1,
            device="cpu",
            oversubscribe=False,
            control_file=folder / "control.json",
            log_dir=folder / "workers" / f"w{number}",
        )
        for number in range(count)
    ]


def test_the_states_of_many_workers_are_one_question(fake: Path, tmp_path: Path) -> None:
    asked = tmp_path / "asked"
    program(fake, "sbatch", "cat > /dev/null; echo 7")
    program(
        fake,
        "squeue",
        f"echo >> {asked}; [ -f {tmp_path}/busy ] || exit 0\n"
        f"for i in $(seq 0 {NUM_WORKERS - 1}); do\n"
        "  printf '%-20s%-20s%-30s%-20s%-60s\\n' 7 $i RUNNING 0 None\ndone",
    )
    launcher = SlurmLauncher(SlurmOptions(master="here"))
    launcher.start(workers(tmp_path))
    (tmp_path / "busy").touch()
    asked.unlink()
    states = launcher.states({})
    assert [status.state for status in states.values()] == [WorkerState.RUNNING] * NUM_WORKERS
    assert len(asked.read_text()) == 1


def test_an_end_stays_known_when_slurm_has_forgotten_it(fake: Path, tmp_path: Path) -> None:
    program(fake, "sbatch", "cat > /dev/null; echo 7")
    program(fake, "squeue", f"cat {tmp_path}/listed 2> /dev/null || true")
    program(fake, "sacct", "echo '7_1|TIMEOUT|0:15'")
    launcher = SlurmLauncher(SlurmOptions(master="here"))
    launcher.start(workers(tmp_path, 2))
    line = f"{7:<20}{0:<20}{'FAILED':<30}{768:<20}{'NonZeroExitCode':<60}\n"
    (tmp_path / "listed").write_text(line)
    first = launcher.states({})
    assert first["w0"].detail == "FAILED (NonZeroExitCode), exit status 3"
    assert first["w1"].detail == "TIMEOUT, exit status 143", "accounting remembers"
    (tmp_path / "listed").unlink()
    program(fake, "sacct", "exit 1")
    assert launcher.states({}) == first


@pytest.mark.parametrize(
    ("job", "ours", "master", "is_hosted"),
    [
        ("", "", "auto", True),
        ("", "", "job", True),
        ("", "", "here", False),
        ("12", "", "auto", False),
        ("12", "", "here", False),
        ("12", "", "job", True),
        ("12", "12", "job", False),
        ("12", "11", "job", True),
    ],
)
def test_where_the_master_runs(
    fake: Path, monkeypatch: pytest.MonkeyPatch, job: str, ours: str, master: str, is_hosted: bool
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", job)
    monkeypatch.setenv(MASTER_VARIABLE, ours)
    options = SlurmOptions(master=master)  # type: ignore[arg-type]
    assert (SlurmLauncher(options).host() is not None) == is_hosted


def started(fake: Path, folder: Path, master: str) -> subprocess.Popen[str]:
    """A master's script at work, with a program in the place of the master."""
    folder.mkdir()
    program(fake, "srun", "echo held; exec sleep 100")
    python = program(fake, "a-master", master)
    order = MasterOrder(run="r", run_dir=folder, config="", workers=workers(folder, 1), measured_time_s=None)
    script = master_script(order, SlurmOptions(python=str(python)))
    environment = {**os.environ, "SLURM_JOB_ID": "7", "SLURM_JOB_NUM_NODES": "1"}
    return subprocess.Popen(["bash", "-c", script], env=environment, text=True, start_new_session=True)


def test_a_master_that_was_killed_is_started_again(fake: Path, tmp_path: Path) -> None:
    once = f"[ -f {tmp_path}/once ] && exit 1; touch {tmp_path}/once; kill -KILL $$"
    run_dir = tmp_path / "run"
    assert started(fake, run_dir, once).wait(60) == 1
    said = (run_dir / "master.log").read_text()
    assert said.count("aibench: the master was ended by signal 9, restarts left: 3\n") == 1


def test_a_master_that_is_killed_again_and_again_is_left(fake: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    assert started(fake, run_dir, "kill -KILL $$").wait(60) == 128 + signal.SIGKILL
    assert (run_dir / "master.log").read_text().count("ended by signal 9") == 4


@pytest.mark.parametrize("status", [0, 2, 130, 143])
def test_a_master_that_ended_by_itself_is_not_started_again(fake: Path, tmp_path: Path, status: int) -> None:
    run_dir = tmp_path / "run"
    assert started(fake, run_dir, f"exit {status}").wait(60) == status
    assert "restarts left" not in (run_dir / "master.log").read_text()


def test_sigterm_reaches_the_master_which_may_take_its_time(fake: Path, tmp_path: Path) -> None:
    run_dir, ready = tmp_path / "run", tmp_path / "ready"
    sealing = f"trap 'sleep 1; exit 143' TERM; touch {ready}; while :; do sleep 0.1; done"
    process = started(fake, run_dir, sealing)
    for _ in range(300):
        if ready.exists():
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 143
