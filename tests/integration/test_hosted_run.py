"""Masters that run elsewhere, with a launcher of another package whose elsewhere is a background process."""

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

LAUNCHER = str(Path(__file__).parents[1] / "data" / "detached_launcher")
OPTIONS = ["--launcher", "detached"]


@pytest.fixture(autouse=True)
def _installed(monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [LAUNCHER, *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))


def submitted(run: Any, aibench: Callable[..., Any]) -> str:
    done = aibench("run", run.config, "--out", run.root, "--launcher", "detached", "--detach")
    assert done.returncode == 0, done.stderr
    reference = json.loads((run.root / "submission.json").read_text())["reference"]
    assert f"submitted {reference}" in done.stderr
    return str(reference)


def test_an_attached_run_relays_its_master_and_ends_with_the_result(make_run: Callable[..., Any]) -> None:
    run = make_run(limits={"trials": 2})
    run.start(*OPTIONS)
    status, output = run.finish()
    assert status == 0, output
    assert "is running" in output
    assert "workers 2" in output
    assert "normalized score" in output
    assert (run.root / "fetched").exists()
    assert run.left_over_processes() == []


def test_ctrl_c_at_an_attached_run_seals_it_and_brings_it_home(make_run: Callable[..., Any]) -> None:
    run = make_run(limits={"measured_time_s": 600})
    run.start(*OPTIONS)
    run.wait_for("epoch_finished", 1)
    run.signal_master(signal.SIGINT)
    status, output = run.finish()
    assert status == 128 + signal.SIGINT, output
    assert run.events("run_ended")[0]["reason"] == "signal"
    assert (run.root / "fetched").exists()
    assert run.left_over_processes() == []


def test_a_detached_run_is_found_followed_and_cancelled_by_its_folder(
    make_run: Callable[..., Any], aibench: Callable[..., Any]
) -> None:
    run = make_run(limits={"measured_time_s": 600})
    reference = submitted(run, aibench)
    run.wait_for("epoch_finished", 1)
    found = json.loads(aibench("status", run.root, "--json").stdout)
    assert (found["state"], found["reference"], found["launcher"]) == ("running", reference, "detached")
    assert found["trials"] >= 1
    assert "running" in aibench("status", run.root).stdout
    refused = aibench("resume", run.root)
    assert refused.returncode == 2
    assert f"its master is running as {reference}" in refused.stderr
    cancelled = aibench("cancel", run.root)
    assert cancelled.returncode == 0
    assert "workers 2" in aibench("logs", run.root).stdout
    fetched = aibench("fetch", run.root)
    assert fetched.returncode == 0
    assert "SIGTERM" in fetched.stdout
    assert run.left_over_processes() == []


def test_a_submitted_master_that_was_killed_is_submitted_again_by_resume(
    make_run: Callable[..., Any], aibench: Callable[..., Any]
) -> None:
    run = make_run(limits={"measured_time_s": 20})
    reference = submitted(run, aibench)
    run.wait_for("epoch_finished", 1)
    os.kill(int(reference), signal.SIGKILL)
    resumed = aibench("resume", run.root)
    assert resumed.returncode == 0, resumed.stderr
    assert len(run.events("run_resumed")) == 1
    assert run.events("run_ended")
    assert run.left_over_processes() == []


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"refuse": "check"}, "aibench: the engine is absent\n"),
        ({"refuse": "submit"}, "aibench: the engine refused\n"),
        ({"never": True}, "aibench: the master cannot be placed: no such partition\n"),
    ],
)
def test_a_refused_master_is_one_line_and_leaves_no_folder(
    make_run: Callable[..., Any], aibench: Callable[..., Any], options: dict[str, Any], line: str
) -> None:
    run = make_run(launcher={"name": "detached", **options})
    done = aibench("run", run.config, "--out", run.root)
    assert done.returncode == 2, done.stderr
    assert done.stderr.endswith(line)
    assert "Traceback" not in done.stderr
    assert not run.root.exists()
    assert run.left_over_processes() == []


def test_data_that_only_the_master_sees_is_not_looked_at_here(
    make_run: Callable[..., Any], aibench: Callable[..., Any]
) -> None:
    run = make_run(
        workload={
            "name": "image_classification",
            "data": "cifar10",
            "data_dir": "/away",
            "initial": "resnet18",
        },
        launcher={"name": "detached", "shares_files": False},
    )
    planned = aibench("run", run.config, "--out", run.root, "--dry-run")
    assert planned.returncode == 0, planned.stderr
    assert f"# aibench master {run.root} --run run-" in planned.stdout
    assert not run.root.exists()


def test_a_run_that_was_not_submitted_is_one_line(aibench: Callable[..., Any], tmp_path: Path) -> None:
    for command in ("status", "logs", "cancel", "fetch"):
        done: subprocess.CompletedProcess[str] = aibench(command, tmp_path)
        assert done.returncode == 2
        assert done.stderr.startswith(f"aibench: {tmp_path}: no master was submitted from here")
        assert done.stderr.count("\n") == 1


def test_detach_needs_a_master_elsewhere(aibench: Callable[..., Any]) -> None:
    done = aibench("run", "smoke", "--detach")
    assert done.returncode == 2
    assert done.stderr.startswith("aibench: --detach: the master of this launcher runs in this process")
