"""What cannot run is one line, and nothing of it is left: no folder, no job."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.slurm import Allocation, Cluster, ClusterRun, eventually, slurm

from launchers.slurm_commands import accounted, job_record

pytestmark = pytest.mark.slurm

Aibench = Callable[..., Any]


def refused(aibench: Aibench, made: ClusterRun, *settings: str) -> str:
    """What a run that is refused says."""
    options = [word for setting in settings for word in ("--set", setting)]
    done = aibench("run", made.run.config, "--out", made.run.root, *options)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert not made.run.root.exists()
    line: str = done.stderr.splitlines()[-1]
    assert line.startswith("aibench: ")
    return line


@pytest.mark.parametrize("master", ["job", "here"])
def test_an_unknown_partition(slurm_run: Callable[..., ClusterRun], aibench: Aibench, master: str) -> None:
    line = refused(aibench, slurm_run(master=master), "launcher.partition=nosuch")
    assert line == "aibench: launcher.partition: 'nosuch' is unknown to this SLURM; known: debug, short"


@pytest.mark.parametrize("master", ["job", "here"])
def test_a_cluster_that_is_not_there(
    slurm_run: Callable[..., ClusterRun], aibench: Aibench, monkeypatch: pytest.MonkeyPatch, master: str
) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("SLURM_CONF", "/nowhere/slurm.conf")
        line = refused(aibench, slurm_run(master=master))
    assert line == (
        "aibench: SLURM_CONF is /nowhere/slurm.conf, which is not there; expected the cluster's slurm.conf"
    )


def test_a_controller_that_does_not_answer(
    slurm_run: Callable[..., ClusterRun],
    aibench: Aibench,
    cluster: Cluster,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    conf = tmp_path / "slurm.conf"
    conf.write_text(re.sub(r"SlurmctldPort=\d+", "SlurmctldPort=9", cluster.conf.read_text()))
    with monkeypatch.context() as patch:
        patch.setenv("SLURM_CONF", str(conf))
        line = refused(aibench, slurm_run())
    assert line.startswith("aibench: SLURM does not answer (")
    assert f"SLURM_CONF (here: {conf})" in line


def test_a_machine_without_slurms_programs(
    slurm_run: Callable[..., ClusterRun], aibench: Aibench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("PATH", str(tmp_path))
        line = refused(aibench, slurm_run())
    assert line.startswith("aibench: scontrol is not in PATH; expected SLURM's programs here")


@pytest.mark.parametrize("master", ["job", "here"])
def test_more_than_the_partition_has(
    slurm_run: Callable[..., ClusterRun], aibench: Aibench, master: str
) -> None:
    made = slurm_run(master=master)
    line = refused(aibench, made, "workers.0.count=5000")
    assert "5000 ranks need 5000 CPUs, expected at most" in line
    line = refused(aibench, made, "launcher.cpus_per_worker_node=1000", "workers.0.count=1")
    assert "those of partition debug" in line


def test_more_nodes_than_the_partition_has(
    slurm_run: Callable[..., ClusterRun], aibench: Aibench, cluster: Cluster
) -> None:
    line = refused(aibench, slurm_run(spare_nodes=20))
    assert f"the workers take 22 nodes, expected at most {len(cluster.nodes)}" in line


def test_a_gang_over_more_nodes_than_there_are(
    slurm_run: Callable[..., ClusterRun], aibench: Aibench, cluster: Cluster
) -> None:
    line = refused(aibench, slurm_run(), "workers.0.ranks=9", "workers.0.nodes_per_worker=9")
    assert (
        f"nodes_per_worker is 9; expected at most {len(cluster.nodes)}, the nodes of partition debug" in line
    )


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("launcher.constraint=quantum", "launcher: constraint is 'quantum'; expected features"),
        ("launcher.gres=npu", "launcher: gres is 'npu'; expected"),
        ("launcher.reservation=nosuch", "launcher: reservation is 'nosuch'; expected"),
    ],
)
def test_values_that_slurm_does_not_know(
    slurm_run: Callable[..., ClusterRun], aibench: Aibench, setting: str, said: str
) -> None:
    assert said in refused(aibench, slurm_run(), setting, "workers.0.device=auto")


def test_an_account_without_an_association(
    slurm_run: Callable[..., ClusterRun], aibench: Aibench, cluster: Cluster
) -> None:
    """Only a cluster with accounting knows accounts."""
    made = slurm_run()
    if cluster.has_accounting:
        assert "launcher: account is 'nosuch'; user root has no such association" in refused(
            aibench, made, "launcher.account=nosuch"
        )
    else:
        done = aibench("run", made.run.config, "--set", "launcher.account=nosuch", "--dry-run")
        assert "#SBATCH --account=nosuch" in done.stdout


def test_a_job_that_waits_for_ever_is_withdrawn(
    slurm_run: Callable[..., ClusterRun], aibench: Aibench, cluster: Cluster
) -> None:
    made = slurm_run(partition="short", time_limit_s=7200)
    assert "SLURM will never start it: Partition" in refused(aibench, made)
    eventually(lambda: cluster.jobs() == [], "the withdrawal")


def test_workers_that_wait_for_ever_end_the_run(
    slurm_run: Callable[..., ClusterRun], cluster: Cluster
) -> None:
    made = slurm_run(partition="short", time_limit_s=7200, master="here")
    made.run.start()
    status, output = made.run.finish()
    assert status == 1, output
    ended = made.run.events("run_ended")[0]
    assert "SLURM will never start it: Partition" in ended["detail"]
    made.require_sound()


def test_inherited_settings_change_nothing(
    slurm_run: Callable[..., ClusterRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    inherited = {
        "SBATCH_PARTITION": "nosuch",
        "SBATCH_ARRAY_INX": "0-3",
        "SLURM_CPUS_PER_TASK": "999",
        "SLURM_NTASKS": "17",
        "SLURM_EXPORT_ENV": "NONE",
        "SRUN_CPUS_PER_TASK": "999",
        "SQUEUE_FORMAT": "%i",
        "SCANCEL_STATE": "PENDING",
    }
    made = slurm_run(sections={"limits": {"trials": 1}})
    with monkeypatch.context() as patch:
        for name, value in inherited.items():
            patch.setenv(name, value)
        made.run.start()
        status, output = made.run.finish()
    assert status == 0, output
    made.require_sound()


def test_a_dry_run_prints_the_script_and_submits_nothing(
    slurm_run: Callable[..., ClusterRun], aibench: Aibench, cluster: Cluster
) -> None:
    made = slurm_run(sections={"limits": {"trials": 1}})
    done = aibench("run", made.run.config, "--out", made.run.root, "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "#SBATCH --nodes=2" in done.stdout
    assert not made.run.root.exists()
    assert cluster.jobs() == []


def test_an_ended_job_is_remembered_by_accounting_where_there_is_some(cluster: Cluster) -> None:
    job = slurm("sbatch", "--parsable", "--output=/dev/null", stdin="#!/bin/bash\nexit 3\n")
    eventually(lambda: cluster.state(job) == "FAILED", "the end of the job")
    found = job_record(int(job))
    assert found is not None
    assert found.exit_status == 3
    if cluster.has_accounting:
        eventually(lambda: getattr(accounted(job), "exit_status", None) == 3, "its record")
    else:
        assert accounted(job) is None


@pytest.fixture
def private(cluster: Cluster, tmp_path: Path) -> Iterator[Path]:
    """A folder that the last node does not see as it is: another file system lies over it there."""
    folder = tmp_path / "private"
    folder.mkdir()
    node = cluster.nodes[-1]
    cluster.lose(node)
    script = 'mount -t tmpfs none "$1" && exec slurmd -N "$2"'
    slurm("unshare", "--mount", "sh", "-c", script, "sh", str(folder), node)
    eventually(lambda: cluster.is_up(node), f"{node} back")
    yield folder
    cluster.lose(node)


def at(made: ClusterRun, folder: Path) -> ClusterRun:
    made.run.root = folder / "run"
    return made


def test_a_folder_that_a_node_of_the_allocation_does_not_see(
    private: Path,
    allocation: Allocation,
    cluster: Cluster,
    slurm_run: Callable[..., ClusterRun],
    aibench: Aibench,
) -> None:
    line = refused(aibench, at(slurm_run(), private))
    assert f"{private}: not seen by node(s) {cluster.nodes[-1]}; expected one that all nodes share" in line
    assert list(private.iterdir()) == []


def test_a_folder_that_the_node_of_a_worker_does_not_see(
    private: Path, cluster: Cluster, slurm_run: Callable[..., ClusterRun]
) -> None:
    there = [f"--nodelist={cluster.nodes[-1]}"]
    made = at(slurm_run(master="here", extra_directives=there), private)
    made.run.start()
    status, output = made.run.finish()
    assert status == 1, output
    assert "its node does not see the run folder" in made.run.events("run_ended")[0]["detail"]
    made.require_sound()


def test_a_folder_that_the_node_of_the_master_does_not_see(
    private: Path, cluster: Cluster, slurm_run: Callable[..., ClusterRun]
) -> None:
    there = [f"--nodelist={cluster.nodes[-1]}"]
    made = at(slurm_run(extra_directives=there, workers_per_node=2), private)
    made.run.start()
    status, output = made.run.finish()
    assert status == 2, output
    assert "its node does not see the run folder" in output.splitlines()[-1]
    assert cluster.jobs() == []
