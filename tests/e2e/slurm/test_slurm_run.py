"""Whole runs by the command line, in each of the three ways."""

import json
import signal
from collections.abc import Callable
from typing import Any

import pytest
from support.slurm import Allocation, Cluster, ClusterRun, eventually

pytestmark = pytest.mark.slurm

FEW_TRIALS = {"limits": {"trials": 2}}
LONG = {"limits": {"measured_time_s": 600}}


def test_an_attached_run_relays_its_master_and_leaves_nothing(slurm_run: Callable[..., ClusterRun]) -> None:
    made = slurm_run(sections=FEW_TRIALS)
    made.run.start()
    status, output = made.run.finish()
    assert status == 0, output
    assert "is running" in output
    assert "workers 2" in output
    assert "normalized score" in output
    made.require_sound()


def test_ctrl_c_at_an_attached_run_seals_it(slurm_run: Callable[..., ClusterRun]) -> None:
    made = slurm_run(sections=LONG)
    made.run.start()
    made.wait_for_epochs(1)
    made.run.signal_master(signal.SIGINT)
    status, output = made.run.finish()
    assert status == 128 + signal.SIGINT, output
    made.require_sound()
    assert made.run.events("run_ended")[0]["reason"] == "signal"


def test_a_detached_run_is_found_followed_and_cancelled_by_its_folder(
    slurm_run: Callable[..., ClusterRun], aibench: Callable[..., Any]
) -> None:
    made = slurm_run(sections=LONG)
    submitted = aibench("run", made.run.config, "--out", made.run.root, "--detach")
    assert submitted.returncode == 0, submitted.stderr
    assert f"submitted {made.job}" in submitted.stderr
    made.wait_for_epochs(1)
    assert json.loads(aibench("status", made.run.root, "--json").stdout)["state"] == "running"
    assert aibench("cancel", made.run.root).returncode == 0
    assert "workers 2" in aibench("logs", made.run.root).stdout
    eventually(made.is_over, "the end")
    fetched = aibench("fetch", made.run.root)
    assert fetched.returncode == 0
    assert "normalized score" in fetched.stdout
    assert json.loads(aibench("status", made.run.root, "--json").stdout)["state"] == "ended"
    made.require_sound()


def test_the_masters_cores_are_its_own_and_workers_have_nodes_of_their_own(
    slurm_run: Callable[..., ClusterRun], cluster: Cluster
) -> None:
    group = {"count": 4, "ranks": 1, "device": "cpu", "oversubscribe": True}
    made = slurm_run(sections={**LONG, "workers": [group]}, workers_per_node=2)
    made.run.start()
    made.wait_for_epochs(1)
    eventually(lambda: len(cluster.steps(made.job)) == 4, "four steps")
    nodes = [node for _, _, node in cluster.steps(made.job)]
    assert sorted(nodes.count(node) for node in set(nodes)) == [2, 2]
    made.run.signal_master(signal.SIGTERM)
    made.run.finish()
    made.require_sound()


def test_inside_an_allocation_workers_are_its_steps(
    allocation: Allocation, cluster: Cluster, slurm_run: Callable[..., ClusterRun]
) -> None:
    made = slurm_run(sections=FEW_TRIALS)
    made.run.start()
    made.wait_for_epochs(1)
    assert len(cluster.steps(allocation.job)) == 2
    status, output = made.run.finish()
    assert status == 0, output
    assert cluster.steps(allocation.job) == []
    assert cluster.jobs() == [allocation.job]
    assert made.run.left_over_processes() == []


def test_a_master_outside_submits_its_workers(slurm_run: Callable[..., ClusterRun], cluster: Cluster) -> None:
    made = slurm_run(sections=FEW_TRIALS, master="here")
    made.run.start()
    made.wait_for_epochs(1)
    assert len(cluster.jobs()) == 2
    status, output = made.run.finish()
    assert status == 0, output
    made.require_sound()


def test_sixty_four_simulated_workers_on_four_nodes(slurm_run: Callable[..., ClusterRun]) -> None:
    sections = {
        "workload": {"name": "synthetic", "epoch_s": 2.0},
        "workers": [{"count": 64, "ranks": 8, "device": "simulated"}],
        "limits": {"measured_time_s": 30},
        "control": {"heartbeat_s": 5, "lease_s": 60},
    }
    made = slurm_run(sections=sections, workers_per_node=16)
    made.run.start()
    _, output = made.run.finish()
    assert "normalized score" in output
    made.require_sound()
    assert len({event["worker"] for event in made.run.events("worker_joined")}) == 64
    assert {event["worker"] for event in made.run.events("trial_claimed")} == {f"w{n}" for n in range(64)}
