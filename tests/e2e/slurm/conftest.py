from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.slurm import Allocation, Cluster, ClusterRun


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    """The cluster that SLURM_CONF names; without one the selected tests fail."""
    return Cluster.found()


@pytest.fixture(autouse=True)
def _whole_cluster(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every test finds all nodes, starts outside of any job, and leaves no job."""
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    yield
    left = cluster.jobs()
    cluster.clean_up()
    assert left == [], "jobs are left"


@pytest.fixture
def allocation(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Allocation]:
    """All nodes of the cluster, and this process inside the job."""
    with cluster.allocated(tmp_path) as held:
        monkeypatch.setenv("SLURM_JOB_ID", held.job)
        yield held


@pytest.fixture
def slurm_run(make_run: Callable[..., Any], cluster: Cluster) -> Callable[..., ClusterRun]:
    """Makes a short run on the cluster; keyword arguments are keys of ``launcher`` or whole sections."""

    def make(*, sections: dict[str, Any] | None = None, **options: Any) -> ClusterRun:
        launcher = {"name": "slurm", "cpus_per_worker_node": 1, **options}
        return ClusterRun(make_run(launcher=launcher, **(sections or {})), cluster)

    return make
