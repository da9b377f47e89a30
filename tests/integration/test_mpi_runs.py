import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.images import image_workload, make_images

pytestmark = pytest.mark.mpi

# Instead of ssh: everything runs here, whatever the host is called.
AGENT = """#!/bin/sh
while [ "${1#-}" != "$1" ]; do shift; done
shift
exec sh -c "$*" < /dev/null
"""


def joined(run: Any) -> list[str]:
    return sorted(event["worker"] for event in run.events("worker_joined"))


def test_workers_of_mpirun_train_and_one_that_dies_is_replaced(make_run: Callable[..., Any]) -> None:
    run = make_run(launcher={"name": "mpi"}, limits={"measured_time_s": 40})
    run.start()
    run.wait_for("worker_joined", 2)
    run.wait_for("epoch_finished", 2)
    (gang,) = run.worker_process("w1").children()
    gang.kill()
    run.wait_for("worker_joined", 3)
    status, output = run.finish()
    assert status == 0, output
    assert [event["worker"] for event in run.events("worker_lost")] == ["w1"]
    assert run.left_over_processes() == []


def test_workers_that_share_hosts_and_span_them_train(make_run: Callable[..., Any], tmp_path: Path) -> None:
    agent, machines = tmp_path / "agent", tmp_path / "machines"
    agent.write_text(AGENT)
    agent.chmod(0o755)
    machines.write_text("node-a slots=2\nnode-b slots=1\n")
    run = make_run(
        launcher={
            "name": "mpi",
            "machine_file": str(machines),
            "arguments": ["--mca", "plm_rsh_agent", str(agent)],
        },
        workers=[{"device": "cpu"}, {"device": "cpu", "ranks": 2, "nodes_per_worker": 2}],
        control={"host": "127.0.0.1", "heartbeat_s": 0.5, "lease_s": 10},
        limits={"measured_time_s": 30},
    )
    run.start()
    status, output = run.finish()
    assert status == 0, output
    ranks = {event["worker"]: len(event["devices"]) for event in run.events("worker_joined")}
    assert ranks == {"w0": 1, "w1": 2}
    trained = {event["worker"] for event in run.events("trial_claimed")}
    assert trained == {"w0", "w1"}
    assert run.left_over_processes() == []


def test_one_line_of_the_site_starts_all_workers_and_they_end_with_the_run(
    make_run: Callable[..., Any], aibench: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMPI_ALLOW_RUN_AS_ROOT", "1")
    monkeypatch.setenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")
    run = make_run(launcher={"name": "mpi", "start": "site"})
    planned = aibench("run", run.config, "--out", run.root, "--dry-run").stdout
    line = planned.partition("# for the site's script: ")[2].splitlines()[0]
    run.start()
    run.wait_until((run.root / "control.json").exists, "address of the master")
    site = subprocess.Popen(shlex.split(line), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    status, output = run.finish()
    said, _ = site.communicate(timeout=120)
    assert status == 0, output
    assert line in output
    assert site.returncode == 0, said
    assert joined(run) == ["w0", "w1"]
    assert run.left_over_processes() == []


def test_data_is_broadcast_to_every_host_before_the_workers_start(
    make_run: Callable[..., Any], tmp_path: Path
) -> None:
    agent, machines = tmp_path / "agent", tmp_path / "machines"
    agent.write_text(AGENT)
    agent.chmod(0o755)
    machines.write_text("node-a slots=1\nnode-b slots=1\n")
    make_images(tmp_path / "images", side=32)
    run = make_run(
        launcher={
            "name": "mpi",
            "machine_file": str(machines),
            "arguments": ["--mca", "plm_rsh_agent", str(agent)],
        },
        workload=image_workload(tmp_path / "images", side=32),
        control={"host": "127.0.0.1", "heartbeat_s": 0.5, "lease_s": 10},
        limits={"trials": 2},
        epochs={"warmup": [], "full": 1},
        stage={"directory": str(tmp_path / "local")},
    )
    run.start()
    _, output = run.finish()
    assert run.events("epoch_finished"), output
    assert " MiB sent to 2 nodes, " in output
    (copy,) = (path for path in (tmp_path / "local").iterdir() if path.is_dir())
    assert sorted(path.name for path in copy.iterdir()) == [".aibench-stage.json", "train", "val"]
