import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
from support.fake_workload import make_config
from support.served_master import ServedMaster
from support.waiting import WAIT_S, eventually

from aibench.config import resolve
from aibench.journal import read_journal
from aibench.score.history import RunHistory
from aibench.score.report import build_report

WORKLOAD = {"name": "synthetic", "epoch_s": 0.2, "image_size": 12, "width": 2}
WORKERS = [{"count": 3, "ranks": 4, "device": "simulated"}]


def simulated_run(make_run: Callable[..., Any], **sections: Any) -> Any:
    settings = {"workload": WORKLOAD, "workers": WORKERS, "search": {"max_morphs": 1}, **sections}
    return make_run(**settings)


def test_simulated_workers_train_whole_trials_and_no_proposer_runs_beside_them(
    make_run: Callable[..., Any],
) -> None:
    run = simulated_run(make_run, limits={"trials": 9}, epochs={"warmup": [3], "full": 8})
    run.start()
    run.wait_for("epoch_finished", 1)
    assert len(psutil.Process(run.process.pid).children(recursive=True)) == 3
    status, output = run.finish()
    assert status == 0, output + run.worker_logs()

    history = RunHistory.of(read_journal(run.root / "journal.jsonl").require_intact())
    assert [len(trial.epochs) for trial in history.trials.values()] == [3] * 3 + [8] * 6
    for worker in history.workers.values():
        assert [device.kind for device in worker.joined.devices] == ["simulated"] * 4
    assert build_report(history).verdict == "smoke"
    assert run.left_over_processes() == []


def test_a_killed_simulated_worker_is_replaced(make_run: Callable[..., Any]) -> None:
    run = simulated_run(make_run, limits={"trials": 6}, epochs={"warmup": [6], "full": 6})
    run.start()
    run.wait_for("epoch_finished", 2)
    run.worker_process("w1").kill()
    status, output = run.finish()
    assert status == 0, output + run.worker_logs()
    assert [event["worker"] for event in run.events("worker_lost")] == ["w1"]
    assert [event["worker"] for event in run.events("worker_joined")].count("w1") == 2


def served(folder: Path, **sections: Any) -> ServedMaster:
    return ServedMaster(folder, resolved=resolve(make_config(workers=[{"count": 1}], **sections)))


def simulated_worker(master: ServedMaster) -> subprocess.Popen[str]:
    arguments = ("worker", "--control", str(master.control_file), "--worker", "w0", "--device", "simulated")
    return subprocess.Popen([sys.executable, "-m", "aibench", *arguments], stderr=subprocess.PIPE, text=True)


def test_it_leaves_when_the_master_stays_away(tmp_path: Path) -> None:
    control = {"heartbeat_s": 0.1, "lease_s": 60, "master_timeout_s": 0.5}
    workload = {"name": "synthetic", "epoch_s": 100.0}
    master = served(tmp_path, control=control, workload=workload)
    with simulated_worker(master) as worker:
        eventually(lambda: bool(master.history.open_trials))
        master.stop()
        _, log = worker.communicate(timeout=WAIT_S)
    assert worker.returncode == -signal.SIGTERM
    assert "the master stayed away" in log


def test_a_workload_that_needs_devices_is_refused_by_the_worker_too(tmp_path: Path) -> None:
    workload = {"name": "image_classification", "data": "digits", "initial": "resnet18"}
    master = served(tmp_path, workload=workload)
    with simulated_worker(master) as worker:
        _, log = worker.communicate(timeout=WAIT_S)
    master.stop()
    assert worker.returncode == 2
    assert log.splitlines()[-1] == (
        "aibench: workload 'image_classification' needs real devices, not device 'simulated'"
    )
