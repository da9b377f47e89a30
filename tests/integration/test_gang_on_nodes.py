import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.waiting import WAIT_S

GROUP = {"count": 1, "ranks": 2, "nodes_per_worker": 2, "device": "cpu"}
SITE = {"name": "mpi", "start": "site"}


class Nodes:
    """A run whose one worker is started by hand, as if on nodes of its own."""

    def __init__(self, run: Any) -> None:
        self.run = run
        self.started: list[subprocess.Popen[bytes]] = []

    def begin(self) -> None:
        self.run.start()
        self.run.wait_until((self.run.root / "control.json").exists, "address of the master")

    def start(self, node_rank: int) -> subprocess.Popen[bytes]:
        environment = {**os.environ, "AIBENCH_NODE_RANK": str(node_rank), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "aibench", "worker", "--worker", "w0", "--device", "cpu"]
        command += ["--control", str(self.run.root / "control.json"), "--ranks", "2", "--nodes", "2"]
        with (self.run.root.parent / "nodes.log").open("ab") as log:
            self.started.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))
        return self.started[-1]

    def end(self) -> None:
        for node in self.started:
            node.kill()
            node.wait()


@pytest.fixture
def make_nodes(make_run: Callable[..., Any]) -> Iterator[Callable[..., Nodes]]:
    made: list[Nodes] = []

    def make(**changes: Any) -> Nodes:
        made.append(Nodes(make_run(workers=[GROUP], launcher=SITE, **changes)))
        return made[-1]

    yield make
    for nodes in made:
        nodes.end()


def test_one_gang_on_two_nodes_trains_and_both_end_with_the_run(make_nodes: Callable[..., Nodes]) -> None:
    nodes = make_nodes()
    nodes.begin()
    both = [nodes.start(1), nodes.start(0)]
    status, output = nodes.run.finish()
    assert status == 0, output
    assert [node.wait(WAIT_S) for node in both] == [0, 0]
    (joined,) = nodes.run.events("worker_joined")
    assert (joined["worker"], len(joined["devices"])) == ("w0", 2)
    assert {len(event["result"]["ranks"]) for event in nodes.run.events("epoch_finished")} == {2}
    assert nodes.run.left_over_processes() == []


def test_a_gang_goes_on_when_a_node_that_died_is_started_again(make_nodes: Callable[..., Nodes]) -> None:
    nodes = make_nodes(limits={"measured_time_s": 90})
    nodes.begin()
    nodes.start(0)
    lost = nodes.start(1)
    nodes.run.wait_for("epoch_finished", 1)
    lost.kill()
    nodes.start(1)
    nodes.run.wait_for("worker_joined", 2)
    finished = len(nodes.run.events("epoch_finished"))
    nodes.run.wait_for("epoch_finished", finished + 1)
    nodes.run.signal_master(signal.SIGTERM)
    status, output = nodes.run.finish()
    assert status == 128 + signal.SIGTERM, output


@pytest.mark.parametrize("first", [0, 1])
def test_a_gang_that_leaves_ends_on_all_its_nodes(make_nodes: Callable[..., Nodes], first: int) -> None:
    nodes = make_nodes(control={"heartbeat_s": 0.5, "lease_s": 10, "master_timeout_s": 1})
    nodes.begin()
    # The node with the lower process id has rank 0, which leaves; only node 0 hosts the meeting.
    both = [nodes.start(first), nodes.start(1 - first)]
    nodes.run.wait_for("worker_joined", 1)
    nodes.run.kill_master()
    assert all(node.wait(WAIT_S) != 0 for node in both)
    nodes.run.wait_until(lambda: nodes.run.left_over_processes() == [], "end of all ranks")
