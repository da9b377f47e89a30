"""Things go wrong on a real cluster: each time the run ends with a sound journal, and nothing is left."""

import signal
from collections.abc import Callable

import psutil
import pytest
from support.slurm import Allocation, Cluster, ClusterRun, eventually, slurm

pytestmark = pytest.mark.slurm

LONG = {"limits": {"measured_time_s": 600}}


def submitted(made: ClusterRun) -> ClusterRun:
    made.run.start("--detach")
    status, output = made.run.finish()
    assert status == 0, output
    made.wait_for_epochs(1, worker="w0")
    made.wait_for_epochs(1, worker="w1")
    return made


def goes_on(made: ClusterRun, worker: str) -> None:
    """A worker that was lost is back and trains."""
    eventually(
        lambda: len(made.run.events("worker_joined")) >= 3, f"the next life of {worker} {made.output()}"
    )
    made.wait_for_epochs(made.num_epochs(worker) + 1, worker=worker)


def cancelled(made: ClusterRun) -> None:
    """End the run in an orderly way, and check what it left."""
    slurm("scancel", "--signal=TERM", "--batch", made.job)
    eventually(made.is_over, f"the end {made.output()}")
    made.require_sound()


def test_a_lost_node_costs_its_worker_which_goes_on_at_a_spare_one(
    slurm_run: Callable[..., ClusterRun], cluster: Cluster
) -> None:
    made = submitted(slurm_run(sections=LONG, spare_nodes=1))
    _, victim = cluster.step_of(made.job, "w1")
    assert victim != "n1", "the master's node"
    cluster.lose(victim)
    lost_at = made.num_epochs("w0")
    goes_on(made, "w1")
    assert made.num_epochs("w0") > lost_at
    _, node = cluster.step_of(made.job, "w1")
    assert node != victim
    assert [event["worker"] for event in made.run.events("worker_lost")] == ["w1"]
    cancelled(made)


def test_a_cancelled_step_is_started_again(slurm_run: Callable[..., ClusterRun], cluster: Cluster) -> None:
    made = submitted(slurm_run(sections=LONG))
    number, _ = cluster.step_of(made.job, "w0")
    slurm("scancel", number)
    goes_on(made, "w0")
    assert cluster.step_of(made.job, "w0")[0] != number
    cancelled(made)


def test_a_killed_master_goes_on_with_its_run_and_the_same_workers(
    slurm_run: Callable[..., ClusterRun], cluster: Cluster
) -> None:
    made = submitted(slurm_run(sections=LONG))
    steps = [cluster.step_of(made.job, worker) for worker in ("w0", "w1")]
    master(made).kill()
    eventually(lambda: bool(made.run.events("run_resumed")), "the next master")
    made.wait_for_epochs(made.num_epochs() + 2)
    assert [cluster.step_of(made.job, worker) for worker in ("w0", "w1")] == steps
    assert made.run.events("worker_lost") == []
    cancelled(made)


def test_a_master_that_is_killed_with_its_clients_starts_its_steps_again(
    slurm_run: Callable[..., ClusterRun], cluster: Cluster
) -> None:
    made = submitted(slurm_run(sections=LONG))
    clients = [process for process in cluster.processes_of("n1") if process.name() == "srun"]
    assert clients
    for process in (*clients, master(made)):
        process.kill()
    eventually(lambda: bool(made.run.events("run_resumed")), "the next master")
    made.wait_for_epochs(made.num_epochs() + 2)
    cancelled(made)


def test_scancel_seals_the_run_and_leaves_no_process(slurm_run: Callable[..., ClusterRun]) -> None:
    made = submitted(slurm_run(sections=LONG))
    slurm("scancel", made.job)
    eventually(made.is_over, f"the end {made.output()}")
    made.require_sound()
    assert made.run.events("run_ended")[0] == {"event": "run_ended", "reason": "signal", "detail": "SIGTERM"}


def test_the_end_of_its_time_seals_the_run(slurm_run: Callable[..., ClusterRun]) -> None:
    made = submitted(slurm_run(sections=LONG, time_limit_s=120, seal_s=60))
    eventually(made.is_over, f"the end {made.output()}", wait_s=240)
    made.require_sound()
    assert made.run.events("run_ended")[0]["detail"] == "SIGTERM"


def test_workers_of_drained_and_lost_nodes_go_on_elsewhere(
    slurm_run: Callable[..., ClusterRun], cluster: Cluster
) -> None:
    made = slurm_run(sections=LONG, master="here")
    made.run.start()
    made.wait_for_epochs(1, worker="w0")
    made.wait_for_epochs(1, worker="w1")
    jobs = dict(
        line.split() for line in slurm("squeue", "--noheader", "--array", "--format=%K %N").splitlines()
    )
    slurm("scontrol", "update", f"NodeName={jobs['0']}", "State=DRAIN", "Reason=drill")
    before = made.num_epochs("w0")
    made.wait_for_epochs(before + 1, worker="w0")
    cluster.lose(jobs["1"])
    goes_on(made, "w1")
    now = dict(
        line.split() for line in slurm("squeue", "--noheader", "--array", "--format=%K %N").splitlines()
    )
    assert now["1"] not in jobs.values()
    made.run.signal_master(signal.SIGTERM)
    status, output = made.run.finish()
    assert status == 128 + signal.SIGTERM, output
    made.require_sound()


def test_a_worker_waits_for_its_node_to_return(
    slurm_run: Callable[..., ClusterRun], cluster: Cluster
) -> None:
    for node in cluster.nodes[2:]:
        slurm("scontrol", "update", f"NodeName={node}", "State=DRAIN", "Reason=drill")
    made = slurm_run(sections=LONG, master="here", extra_directives=["--exclusive"])
    made.run.start()
    made.wait_for_epochs(1, worker="w1")
    jobs = dict(
        line.split() for line in slurm("squeue", "--noheader", "--array", "--format=%K %N").splitlines()
    )
    cluster.lose(jobs["1"])
    eventually(lambda: "PENDING" in slurm("squeue", "--noheader", "--format=%T"), "the wait for a node")
    before = made.num_epochs("w0")
    made.wait_for_epochs(before + 1, worker="w0")
    cluster.bring_back(jobs["1"])
    goes_on(made, "w1")
    made.run.signal_master(signal.SIGTERM)
    made.run.finish()
    made.require_sound()


def test_a_resumed_master_outside_takes_its_jobs_over(
    slurm_run: Callable[..., ClusterRun], cluster: Cluster
) -> None:
    made = slurm_run(sections=LONG, master="here")
    made.run.start()
    made.wait_for_epochs(2)
    jobs = cluster.jobs()
    made.run.kill_master()
    made.run.resume()
    eventually(lambda: bool(made.run.events("run_resumed")), "the next master")
    made.wait_for_epochs(made.num_epochs() + 2)
    assert cluster.jobs() == jobs
    made.run.signal_master(signal.SIGTERM)
    made.run.finish()
    made.require_sound()


def test_a_cancelled_step_of_an_allocation_is_started_again(
    allocation: Allocation, cluster: Cluster, slurm_run: Callable[..., ClusterRun]
) -> None:
    made = slurm_run(sections=LONG)
    made.run.start()
    made.wait_for_epochs(1, worker="w0")
    made.wait_for_epochs(1, worker="w1")
    numbers = slurm(
        "squeue", "--noheader", "--steps", f"--jobs={allocation.job}", "--format=%i %j"
    ).splitlines()
    slurm("scancel", next(line.split()[0] for line in numbers if line.endswith(".w0")))
    goes_on(made, "w0")
    made.run.signal_master(signal.SIGTERM)
    status, output = made.run.finish()
    assert status == 128 + signal.SIGTERM, output
    assert cluster.steps(allocation.job) == []
    assert made.run.left_over_processes() == []


def master(made: ClusterRun) -> psutil.Process:
    found = [
        process
        for process in psutil.process_iter(["cmdline"])
        if (process.info["cmdline"] or [])[1:4] == ["-m", "aibench", "master"]
        and str(made.run.root) in process.info["cmdline"]
    ]
    assert len(found) == 1
    return found[0]


def test_a_run_whose_masters_node_is_lost_goes_on_elsewhere(
    slurm_run: Callable[..., ClusterRun], cluster: Cluster
) -> None:
    made = submitted(slurm_run(sections=LONG))
    batch_host = slurm("squeue", "--noheader", f"--jobs={made.job}", "--format=%B")
    cluster.lose(batch_host)
    eventually(lambda: bool(made.run.events("run_resumed")), f"the next master {made.output()}", wait_s=240)
    made.wait_for_epochs(made.num_epochs() + 2)
    assert slurm("squeue", "--noheader", f"--jobs={made.job}", "--format=%B") != batch_host
    cancelled(made)
