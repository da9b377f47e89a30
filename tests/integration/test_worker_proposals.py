"""The workers' proposers as processes: in real runs, and beside a rank that is watched or dies."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest
from support.fake_master import epoch_result, join_request
from support.fake_workload import make_config
from support.served_master import ServedMaster
from support.waiting import WAIT_S, eventually

from aibench.api.events import EndReason, Outcome
from aibench.api.protocol import (
    Acknowledgement,
    ClaimReply,
    ClaimRequest,
    EpochRequest,
    FinishRequest,
    JoinReply,
    SearchBrief,
)
from aibench.worker import connection as connection_module
from aibench.worker.connection import Connection
from aibench.worker.proposer import Proposer
from aibench.worker.proposer_process import ProposerProcess

SEARCH = {
    "architecture": "network_morphism",
    "max_morphs": 1,
    "max_ops_ratio": 1.5,
    "space": {"batch_size": {"choices": [256]}},
}
TINY = {
    "workload": {"name": "image_classification", "data": "digits", "initial": "resnet18", "width": 1},
    "workers": [{"count": 1, "ranks": 1, "device": "cpu", "oversubscribe": True}],
    "epochs": {"warmup": [1], "full": 1},
    "limits": {"measured_time_s": 600},
}


def proposers(root: Path) -> list[psutil.Process]:
    """Proposers of the run in this folder, by their command lines."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        line = process.info["cmdline"] or []
        if "proposer" in line and any(argument.startswith(str(root)) for argument in line):
            found.append(process)
    return found


# Real runs --------------------------------------------------------------------------------------------


def origins(run: Any) -> list[str]:
    return [claim["lineage"]["origin"] for claim in run.events("trial_claimed")]


def end(run: Any) -> None:
    """End the run early, which must leave nothing behind."""
    run.signal_master(signal.SIGTERM)
    status, output = run.finish()
    assert status == 128 + signal.SIGTERM, output
    assert run.left_over_processes() == []


def test_trials_of_a_run_train_what_workers_proposed(make_run: Callable[..., Any]) -> None:
    run = make_run(search=SEARCH, **TINY)
    run.start()
    run.wait_until(lambda: bool(proposers(run.root)), "proposer")
    (process,) = proposers(run.root)
    run.wait_until(lambda: "worker" in origins(run), "trial of a proposal")
    assert process.nice() == 19
    assert os.sched_getscheduler(process.pid) == os.SCHED_IDLE
    assert process.environ()["OMP_NUM_THREADS"] == "1"
    end(run)
    claims = run.events("trial_claimed")
    trained = {claim["architecture_hash"] for claim in claims}
    proposed = [claim["lineage"] for claim in claims if claim["lineage"]["origin"] == "worker"]
    assert {lineage["parent"] for lineage in proposed} <= trained
    assert all(len(lineage["morphs"]) == 1 for lineage in proposed)


def test_a_killed_proposer_costs_nothing_but_its_proposals(make_run: Callable[..., Any]) -> None:
    run = make_run(search=SEARCH, **TINY)
    run.start()
    run.wait_until(lambda: bool(proposers(run.root)), "proposer")
    proposers(run.root)[0].kill()
    note = "the proposer ended with status -9; training goes on"
    run.wait_until(lambda: note in run.worker_logs(), "note of its end")
    run.wait_for("trial_closed", len(run.events("trial_closed")) + 2)
    end(run)
    assert {e["outcome"] for e in run.events("trial_closed")} <= {"completed", "interrupted"}
    assert len(run.events("worker_joined")) == 1


def test_the_switch_turns_proposers_off(make_run: Callable[..., Any]) -> None:
    run = make_run(search={**SEARCH, "worker_proposals": False}, **TINY)
    run.start()
    run.wait_for("trial_closed", 2)
    assert proposers(run.root) == []
    end(run)
    assert set(origins(run)) == {"initial", "network_morphism"}


# A served master --------------------------------------------------------------------------------------


class Stage:
    """Masters of one folder, each with worker w0 and one trained trial."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.control_file = folder / "control.json"
        self.masters: list[ServedMaster] = []

    def serve(self) -> ServedMaster:
        search = {"architecture": "evolution", "max_morphs": 2, "hyper_parameters": "random"}
        config = make_config(workers=[{"count": 1}], search=search, control={"lease_s": 600})
        self.masters.append(ServedMaster(self.folder, config))
        return self.masters[-1]

    def train_one(self) -> SearchBrief:
        """Join and train a trial; what the worker was told to search for."""
        connection = Connection(self.control_file)
        brief = connection.call("/v1/join", join_request(), JoinReply).search
        life: dict[str, Any] = {"worker": "w0", "incarnation": "a"}
        claim = ClaimRequest(**life, request="r1")
        spec = connection.call("/v1/claim", claim, ClaimReply).spec
        assert spec is not None
        for epoch in range(1, spec.epochs + 1):
            report = EpochRequest(**life, trial=spec.trial, result=epoch_result(epoch))
            connection.call("/v1/epoch", report, Acknowledgement)
        finish = FinishRequest(**life, trial=spec.trial, outcome=Outcome.COMPLETED)
        connection.call("/v1/finish", finish, Acknowledgement)
        connection.close()
        assert brief is not None
        return brief


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    monkeypatch.setattr(connection_module, "MAX_RETRY_PAUSE_S", 0.1)
    made = Stage(tmp_path)
    yield made
    for master in made.masters:
        master.stop()


def num_waiting(master: ServedMaster) -> int:
    return master.run(lambda: master.coordinator.num_waiting_proposals)


def test_a_proposer_outlives_a_master_and_serves_the_next_until_it_ends(stage: Stage) -> None:
    master = stage.serve()
    proposer = Proposer(stage.control_file, stage.train_one(), worker="w0", incarnation="a")
    serving = threading.Thread(target=proposer.run)
    serving.start()
    eventually(lambda: num_waiting(master) == 4)
    master.stop()
    master = stage.serve()
    eventually(lambda: num_waiting(master) == 4)
    master.run(lambda: master.coordinator.end(EndReason.SIGNAL))
    serving.join(WAIT_S)
    assert not serving.is_alive()
    assert proposer.num_set_aside == 0


def test_a_proposer_process_fills_the_pool_and_ends_when_stopped(stage: Stage) -> None:
    master = stage.serve()
    process = ProposerProcess(stage.control_file, join_request())
    process.start(stage.train_one())
    (child,) = proposers(stage.folder)
    eventually(lambda: num_waiting(master) == 4)
    process.stop()
    assert not child.is_running()
    assert proposers(stage.folder) == []


def test_a_proposer_process_ends_itself_with_the_run(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    master = stage.serve()
    process = ProposerProcess(stage.control_file, join_request())
    process.start(stage.train_one())
    (child,) = proposers(stage.folder)
    eventually(lambda: num_waiting(master) == 4)
    master.run(lambda: master.coordinator.end(EndReason.SIGNAL))
    eventually(lambda: not child.is_running())
    process.stop()
    assert caplog.messages == []


def test_a_proposer_that_fails_is_noted_and_harms_nobody(
    stage: Stage, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    master = stage.serve()
    brief = stage.train_one()
    process = ProposerProcess(stage.control_file, join_request())
    process._argv.append("--no-such-option")
    process.start(brief)
    eventually(lambda: "the proposer ended with status 2; training goes on" in caplog.messages)
    process.stop()
    assert "No such option" in capfd.readouterr().err
    assert num_waiting(master) == 0


RANK = """
import sys, time
from pathlib import Path
import msgspec
from support.fake_master import join_request
from aibench.api.protocol import SearchBrief
from aibench.worker.proposer_process import ProposerProcess

brief = msgspec.json.decode(sys.stdin.buffer.read(), type=SearchBrief)
process = ProposerProcess(Path(sys.argv[1]), join_request())
process.start(brief)
print(process._process.pid, flush=True)
time.sleep(600)
"""


def test_a_proposer_does_not_outlive_its_rank(stage: Stage) -> None:
    stage.serve()
    path = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    rank = subprocess.Popen(
        [sys.executable, "-c", RANK, str(stage.control_file)],
        env={**os.environ, "PYTHONPATH": path},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert rank.stdin is not None
    assert rank.stdout is not None
    with rank:
        rank.stdin.write(msgspec.json.encode(stage.train_one()))
        rank.stdin.close()
        child = psutil.Process(int(rank.stdout.readline()))
        rank.send_signal(signal.SIGKILL)
    eventually(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)
