"""The proposer against the coordinator it would reach over the network, and the command that starts it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.direct_connection import DirectConnection
from support.fake_master import FakeMaster, join_request, one_worker
from support.fake_workload import make_config

from aibench.api.events import EndReason, Outcome, TrialClaimed
from aibench.api.protocol import HistoryEntry, HistoryReply, ProposeReply, ProposeRequest
from aibench.architecture.graph import ArchitectureDocument
from aibench.errors import ProtocolError
from aibench.search.network_morphism import NetworkMorphismSearch
from aibench.worker import proposer as proposer_module
from aibench.worker.proposer import NUM_CANDIDATES, SETBACK_PAUSE_S, Proposer
from aibench.worker.proposer_process import ProposerProcess, proposer_argv, proposer_environment

ALGORITHMS = ["evolution", "network_morphism"]


def searching_worker(algorithm: str = "evolution", **sections: Any) -> FakeMaster:
    search = {"architecture": algorithm, "max_morphs": 2, "hyper_parameters": "random"}
    return one_worker(search=search, **sections)


def train(master: FakeMaster, request: str, **changes: Any) -> None:
    master.complete(master.lease(request=request).trial, **changes)


class Bench:
    """A proposer of worker w0 and its connection."""

    def __init__(self, master: FakeMaster, monkeypatch: pytest.MonkeyPatch, incarnation: str = "a") -> None:
        self.connection = DirectConnection(master)
        monkeypatch.setattr(proposer_module, "Connection", lambda _: self.connection)
        brief = master.join().search
        assert brief is not None
        self.proposer = Proposer(Path("unused"), brief, worker="w0", incarnation=incarnation)

    @property
    def proposals(self) -> list[ProposeRequest]:
        return [message for message in self.connection.sent if isinstance(message, ProposeRequest)]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_pool_is_filled_with_children_of_what_was_trained_and_then_left_alone(
    monkeypatch: pytest.MonkeyPatch, algorithm: str
) -> None:
    master = searching_worker(algorithm)
    bench = Bench(master, monkeypatch)
    assert bench.proposer.turn() == 1.05
    assert bench.proposals == [], "nothing is known yet"
    train(master, "r1")
    assert [bench.proposer.turn() for _ in range(6)] == [0.05] * 4 + [1.05] * 2
    assert master.coordinator.num_waiting_proposals == 4
    initial = master.resolved.initial.content_hash
    assert {proposal.lineage.parent for proposal in bench.proposals} == {initial}
    assert all(len(proposal.lineage.morphs) in (1, 2) for proposal in bench.proposals)
    assert [proposal.num_known for proposal in bench.proposals] == [1] * 4
    hashes = {proposal.architecture.to_architecture().content_hash for proposal in bench.proposals}
    assert len(hashes) == 4
    assert initial not in hashes


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_trials_train_what_it_found(monkeypatch: pytest.MonkeyPatch, algorithm: str) -> None:
    master = searching_worker(algorithm)
    bench = Bench(master, monkeypatch)
    for number in range(8):
        train(master, f"r{number}", validation_correct=10 + number)
        bench.proposer.turn()
    claims = master.of(TrialClaimed)
    assert [claim.lineage.origin for claim in claims] == ["initial"] + ["worker"] * 7
    trained = {claim.architecture_hash for claim in claims}
    assert {claim.lineage.parent for claim in claims[1:]} <= trained
    assert len(trained) == 8


def test_the_whole_history_is_learned_before_anything_is_proposed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aibench.master.proposals.MAX_HISTORY_ENTRIES", 2)
    master = searching_worker()
    for number in range(5):
        train(master, f"r{number}")
    master.finish(master.lease(request="failing").trial, Outcome.FAILED)
    bench = Bench(master, monkeypatch)
    bench.proposer.turn()
    assert [message.since for message in bench.connection.sent[:-1]] == [0, 2, 4, 6]
    assert bench.proposals[0].num_known == 6


def test_network_morphism_searches_harder_than_the_master_and_says_what_it_hopes_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opened: list[int | None] = []
    init = NetworkMorphismSearch.__init__

    def note(self: NetworkMorphismSearch, *arguments: Any, **values: Any) -> None:
        opened.append(values.get("num_candidates"))
        init(self, *arguments, **values)

    monkeypatch.setattr(NetworkMorphismSearch, "__init__", note)
    master = searching_worker("network_morphism")
    for number in range(3):
        train(master, f"r{number}", validation_correct=14 + number)  # errors 0.3, 0.25 and 0.2
    bench = Bench(master, monkeypatch)
    bench.proposer.turn()
    assert opened == [None, NUM_CANDIDATES]
    assert bench.proposals[0].bound < 0.3


def test_proposers_of_different_workers_and_lives_draw_differently(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for incarnation in ("a", "a", "b"):
        master = searching_worker()
        train(master, "r1")
        bench = Bench(master, monkeypatch, "a")
        brief = master.join().search
        assert brief is not None
        proposer = Proposer(Path("unused"), brief, worker="w0", incarnation=incarnation)
        found.append(proposer._search.ask().architecture.content_hash)
        assert bench.proposals == []
    assert found[0] == found[1]
    assert found[0] != found[2]


# What goes wrong --------------------------------------------------------------------------------------


def entry(master: FakeMaster, trial: int, **changes: Any) -> HistoryEntry:
    values: dict[str, Any] = {"architecture": master.resolved.initial.to_document(), "error": 0.5}
    return HistoryEntry(trial=trial, **{**values, **changes})


def test_history_that_makes_no_sense_is_set_aside_and_counted(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    master = searching_worker()
    bench = Bench(master, monkeypatch)
    entries = (
        entry(master, 1, error=float("nan")),
        entry(master, 2, error=float("inf")),
        entry(master, 3, error=1.5),
        entry(master, 4, error=-0.1),
        entry(master, 5, error=None),
        entry(master, 6, architecture=ArchitectureDocument(nodes=())),
        entry(master, 7),
    )
    page = HistoryReply(entries=entries, next_since=7, wants_proposal=True, pause_s=0.0)
    end = HistoryReply(entries=(), next_since=7, wants_proposal=True, pause_s=0.0)
    bench.connection.replies = {"/v1/history": [page, end], "/v1/propose": [ProposeReply(accepted=True)]}
    assert bench.proposer.turn() == 0.0
    assert bench.proposer.num_set_aside == 6
    lines = [message for message in caplog.messages if "is set aside" in message]
    assert [line.split(",")[0] for line in lines] == [f"trial {trial} is set aside" for trial in range(1, 7)]
    assert len(bench.proposals) == 1


def test_a_refused_proposal_makes_it_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    master = searching_worker()
    train(master, "r1")
    bench = Bench(master, monkeypatch)
    bench.connection.replies = {"/v1/propose": [ProposeReply(accepted=False, reason="no")]}
    assert bench.proposer.turn() == 0.05 + SETBACK_PAUSE_S
    assert bench.proposer.turn() == 0.05


def test_while_its_worker_is_given_up_it_waits_for_the_ranks_to_join_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    master = searching_worker()
    train(master, "r1")
    bench = Bench(master, monkeypatch)
    master.coordinator.lose("w0", "test")
    assert bench.proposer.turn() == SETBACK_PAUSE_S
    master.join()
    assert bench.proposer.turn() == 0.05
    assert master.coordinator.num_waiting_proposals == 1


def test_a_call_that_the_master_does_not_know_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(searching_worker(), monkeypatch)

    def refuse(*_: object, **__: object) -> None:
        raise ProtocolError(404, "Not Found")

    monkeypatch.setattr(bench.connection, "call_until", refuse)
    with pytest.raises(ProtocolError):
        bench.proposer.turn()


def test_it_ends_with_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    master = searching_worker()
    train(master, "r1")
    bench = Bench(master, monkeypatch)
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            master.coordinator.end(EndReason.SIGNAL)

    monkeypatch.setattr("aibench.worker.proposer.time.sleep", sleep)
    bench.proposer.run()
    assert len(pauses) == 3
    assert all(0.025 <= pause <= 0.075 for pause in pauses), "half to one and a half times 0.05 s"
    assert len(bench.proposals) == 3


# The process ------------------------------------------------------------------------------------------


def test_a_proposer_imports_neither_torch_nor_optuna() -> None:
    code = (
        "import sys\n"
        "from aibench.cli import main\n"
        "import aibench.worker.proposer\n"
        "import aibench.worker.parent\n"
        "print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    modules = set(done.stdout.split())
    assert "aibench.search.network_morphism" in modules
    assert modules & {"torch", "optuna", "aibench.search.search", "aibench.master", "sklearn"} == set()


def test_the_process_is_told_whose_child_it_is_and_gets_one_thread() -> None:
    argv = proposer_argv(Path("/run/control.json"), join_request("w3", "life"))
    assert argv == [
        *(sys.executable, "-m", "aibench", "proposer", "--control", "/run/control.json"),
        *("--worker", "w3", "--incarnation", "life", "--parent", str(os.getpid())),
    ]
    environment = proposer_environment({"OMP_NUM_THREADS": "8", "HOME": "/home"})
    assert environment == {
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "HOME": "/home",
    }


def test_without_a_brief_no_process_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(*_: object, **__: object) -> None:
        raise AssertionError("started")

    monkeypatch.setattr(subprocess, "Popen", start)
    process = ProposerProcess(Path("unused"), join_request())
    process.start(FakeMaster(make_config(search={"architecture": "random"})).join().search)
    process.stop()


def test_a_system_that_starts_no_process_costs_the_proposals_only(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def start(*_: object, **__: object) -> None:
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(subprocess, "Popen", start)
    process = ProposerProcess(Path("unused"), join_request())
    process.start(searching_worker().join().search)
    process.stop()
    assert "no proposer: it could not be started" in caplog.text
