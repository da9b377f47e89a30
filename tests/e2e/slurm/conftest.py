from collections.abc import Iterator
from pathlib import Path

import pytest
from support.slurm import Allocation, Cluster


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    """The cluster that SLURM_CONF names; without one the selected tests fail."""
    return Cluster.found()


@pytest.fixture
def allocation(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Allocation]:
    """All nodes of the cluster, and this process inside the job."""
    with cluster.allocated(tmp_path) as held:
        monkeypatch.setenv("SLURM_JOB_ID", held.job)
        yield held
