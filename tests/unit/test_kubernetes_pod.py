import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from launchers import kubernetes_pod
from launchers.kubernetes_pod import ENDED_NAME, serve, unpack

PROGRAM = "from launchers.kubernetes_pod import main; main()"


def call(*arguments: object) -> subprocess.CompletedProcess[bytes]:
    argv = [sys.executable, "-c", PROGRAM, *map(str, arguments)]
    return subprocess.run(argv, capture_output=True, timeout=60, check=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "run"
    (made / "workers" / "w0").mkdir(parents=True)
    (made / "workers" / "w0" / "output.log").write_text("said\n")
    (made / "journal.jsonl").write_text("{}\n")
    (made / "control.json").write_text("the token")
    (made / "weights").mkdir()
    return made


def test_results_travel_without_the_token_and_the_weights(folder: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    assert unpack(io.BytesIO(call("pack", folder).stdout), home)
    found = sorted(str(path.relative_to(home)) for path in home.rglob("*") if path.is_file())
    assert found == ["journal.jsonl", "workers/w0/output.log"]
    assert (home / "workers" / "w0" / "output.log").read_text() == "said\n"


@pytest.mark.parametrize("num_bytes", [0, 100, 512, 1024, 2048])
def test_results_that_were_cut_off_change_nothing_at_home(
    folder: Path, tmp_path: Path, num_bytes: int
) -> None:
    archive = call("pack", folder).stdout
    home = tmp_path / "home"
    home.mkdir()
    (home / "journal.jsonl").write_text("known")
    assert not unpack(io.BytesIO(archive[:num_bytes]), home)
    assert [path.name for path in home.iterdir()] == ["journal.jsonl"]
    assert (home / "journal.jsonl").read_text() == "known"


def test_the_folder_is_removed(folder: Path) -> None:
    call("remove", folder)
    assert not folder.exists()


def test_the_keeper_stays_until_the_master_has_ended_and_its_time_is_up(folder: Path) -> None:
    keeper = subprocess.Popen([sys.executable, "-c", PROGRAM, "keep", str(folder), "0.1"])
    time.sleep(2)
    assert keeper.poll() is None
    (folder / ENDED_NAME).touch()
    assert keeper.wait(timeout=30) == 0


def test_the_keeper_ends_when_it_is_told_to(folder: Path) -> None:
    alarm = "import threading, os; threading.Timer(1, os.kill, (os.getpid(), 15)).start(); "
    argv = [sys.executable, "-c", alarm + PROGRAM, "keep", str(folder), "999"]
    assert subprocess.run(argv, timeout=60, check=False).returncode == 0


class Master:
    """Stands in for ``aibench master``."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def does(self, script: str) -> None:
        self.path.write_text(f"#!/bin/sh\n{script}\n")
        self.path.chmod(0o755)


@pytest.fixture
def master(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Master:
    (tmp_path / "given.yaml").write_text("name: run\n")
    monkeypatch.setattr(kubernetes_pod, "CONFIG", tmp_path / "given.yaml")
    monkeypatch.setattr(kubernetes_pod, "TERMINATION_MESSAGE", tmp_path / "message")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "master"))
    return Master(tmp_path / "master")


@pytest.fixture(autouse=True)
def _restore_signals() -> object:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_a_sealed_run_is_done_whatever_it_is_worth(master: Master, tmp_path: Path) -> None:
    master.does('echo "$@" > $4/arguments; touch $4/report.json; exit 143')
    folder = tmp_path / "new"
    assert serve(folder, "the-run") == 0
    assert (folder / "arguments").read_text() == f"-m aibench master {folder} --run the-run\n"
    assert (folder / "config.yaml").read_text() == "name: run\n"
    assert (folder / ENDED_NAME).exists()
    assert (tmp_path / "message").read_text() == "the master ended with status 143"


def test_a_sealed_run_is_not_run_again(master: Master, folder: Path) -> None:
    master.does("exit 9")
    (folder / "report.json").touch()
    assert serve(folder, "the-run") == 0
    assert (folder / ENDED_NAME).exists()


def test_unusable_input_is_not_tried_again_but_by_a_new_submission(master: Master, folder: Path) -> None:
    master.does("exit 2")
    assert serve(folder, "the-run") == 0
    master.does("rm $4/workers/w0/output.log; touch $4/report.json")
    assert serve(folder, "the-run") == 0
    assert not (folder / "workers" / "w0" / "output.log").exists()


@pytest.mark.parametrize("script", ["kill -9 $$", "exit 1"])
def test_a_master_that_broke_is_started_again_by_its_node(master: Master, folder: Path, script: str) -> None:
    master.does(script)
    assert serve(folder, "the-run") == 1
    assert not (folder / ENDED_NAME).exists()


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 0), (signal.SIGTERM, 1)])
def test_sigint_seals_the_run_and_sigterm_leaves_it_to_the_next_pod(
    master: Master, folder: Path, number: signal.Signals, status: int
) -> None:
    seal = f"trap 'touch {folder}/report.json; exit 143' TERM"
    master.does(f"{seal}; kill -{number.value} {os.getpid()}; while true; do sleep 0.1; done")
    assert serve(folder, "the-run") == status
