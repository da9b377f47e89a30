"""One worker over two nodes: a step whose tasks are one gang."""

from collections.abc import Callable

import pytest
from support.slurm import ClusterRun

pytestmark = pytest.mark.slurm

SECTIONS = {
    "workers": [
        {"count": 1, "ranks": 2, "nodes_per_worker": 2, "device": "cpu", "oversubscribe": True},
        {"count": 1, "ranks": 1, "device": "cpu", "oversubscribe": True},
    ],
    "limits": {"trials": 3},
}


def test_a_worker_over_two_nodes_trains_as_one_gang_beside_another(
    slurm_run: Callable[..., ClusterRun],
) -> None:
    made = slurm_run(sections=SECTIONS)
    made.run.start()
    status, output = made.run.finish()
    assert status == 0, output
    ranks = {event["worker"]: len(event["devices"]) for event in made.run.events("worker_joined")}
    assert ranks == {"w0": 2, "w1": 1}
    assert made.num_epochs("w0") > 0
    assert len(list((made.run.root / "workers" / "w0").glob("output*.log"))) == 2, "one log per node"
    made.require_sound()
