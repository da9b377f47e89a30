"""The master's side of the workers' proposals, as the coordinator answers it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from support.fake_master import FakeMaster, one_worker, refused
from support.fake_workload import make_config

from aibench.api.events import EndReason, Lineage, Outcome, TrialClaimed
from aibench.api.protocol import ProposeReply, ProposeRequest, SearchBrief
from aibench.api.space import Domain
from aibench.api.workload import HyperParameters
from aibench.architecture import Architecture, Conv, Shape
from aibench.architecture.morphs import Deepen, Widen, apply
from aibench.architecture.resnet import resnet
from aibench.search.pool import Fate

INITIAL = resnet("resnet18", Shape(3, 8, 8), 10, width=4)
CHILDREN = [apply(INITIAL, Deepen(place, "conv")) for place in (3, 6, 10)] + [apply(INITIAL, Widen(1))]


def search_section(algorithm: str = "network_morphism", **changes: Any) -> dict[str, Any]:
    return {"architecture": algorithm, "max_morphs": 2, "hyper_parameters": "random", **changes}


def searching_worker(**changes: Any) -> FakeMaster:
    return one_worker(search=search_section(**changes))


def propose(master: FakeMaster, network: Architecture = CHILDREN[0], **changes: Any) -> ProposeReply:
    values = {
        "worker": "w0",
        "incarnation": "a",
        "architecture": network.to_document(),
        "lineage": Lineage(origin="network_morphism", parent=INITIAL.content_hash, morphs=("m",)),
        "bound": 0.5,
        "num_known": 0,
    }
    return master.coordinator.propose(ProposeRequest(**{**values, **changes}))


def train(master: FakeMaster, request: str, **changes: Any) -> int:
    trial = master.lease(request=request).trial
    master.complete(trial, **changes)
    return trial


# What a worker is told --------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["evolution", "network_morphism"])
def test_who_joins_is_told_what_to_search_for(algorithm: str) -> None:
    master = FakeMaster(make_config(search=search_section(algorithm, max_ops_ratio=2.0), seed=7))
    brief = master.join().search
    assert brief == SearchBrief(
        algorithm=algorithm,  # type: ignore[arg-type]
        initial=INITIAL.to_document(),
        max_morphs=2,
        max_train_ops=master.coordinator._search.max_train_ops,
        morphs=("deepen", "widen", "skip", "kernel"),
        seed=7,
    )
    assert master.join().search == brief, "and again whenever it joins"


@pytest.mark.parametrize(
    "section",
    [
        search_section("random"),
        search_section("none"),
        search_section("evolution", worker_proposals=False),
        search_section("network_morphism", worker_proposals=False),
    ],
)
def test_who_joins_is_told_nothing_where_nothing_is_to_be_proposed(section: dict[str, Any]) -> None:
    assert FakeMaster(make_config(search=section)).join().search is None


def test_the_most_training_operations_are_those_of_the_configuration() -> None:
    briefs = [
        FakeMaster(make_config(search=search_section(max_ops_ratio=ratio))).join().search
        for ratio in (2.0, 3.0)
    ]
    assert briefs[0] is not None
    assert briefs[1] is not None
    assert briefs[1].max_train_ops == pytest.approx(1.5 * briefs[0].max_train_ops)


# Networks without their hyper-parameters --------------------------------------------------------------


def enlarged(architecture: Architecture, kernel: int) -> Architecture:
    return Architecture(
        tuple(
            msgspec.structs.replace(node, kernel=kernel, padding=kernel // 2)
            if isinstance(node, Conv) and node.kernel > 1
            else node
            for node in architecture.nodes
        )
    )


@pytest.fixture
def five_by_five(monkeypatch: pytest.MonkeyPatch) -> FakeMaster:
    """A run whose hyper-parameters make every trained network differ from the one that was searched."""

    def specialise(_: object, architecture: Architecture, hyper_parameters: HyperParameters) -> Architecture:
        kernel = hyper_parameters.get("kernel")
        return enlarged(architecture, kernel) if isinstance(kernel, int) else architecture

    workload = "support.fake_workload.FakeWorkload"
    monkeypatch.setattr(f"{workload}.specialise", specialise)
    monkeypatch.setattr(f"{workload}.search_space", lambda _: {"kernel": Domain(choices=(5, 7))})
    return searching_worker()


def test_history_and_brief_show_networks_without_what_hyper_parameters_made_of_them(
    five_by_five: FakeMaster,
) -> None:
    trial = train(five_by_five, "r1")
    trained = five_by_five.history.trials[trial].claimed
    (entry,) = five_by_five.history_since(0).entries
    neutral = enlarged(INITIAL, 5)
    assert entry.architecture == neutral.to_document()
    brief = five_by_five.join().search
    assert brief is not None
    assert brief.initial == neutral.to_document()
    kernel = trained.spec.hyper_parameters["kernel"]
    assert isinstance(kernel, int)
    assert trained.architecture_hash == enlarged(INITIAL, kernel).content_hash


def test_the_parent_of_a_proposal_is_named_as_it_was_trained(five_by_five: FakeMaster) -> None:
    for request in range(20):
        trial = train(five_by_five, f"r{request}")
        trained = five_by_five.history.trials[trial].claimed
        if trained.spec.hyper_parameters["kernel"] == 7:
            break
    (entry, *_) = five_by_five.history_since(trial - 1).entries
    parent = entry.architecture.to_architecture()
    lineage = Lineage(origin="network_morphism", parent=parent.content_hash, morphs=("m",))
    assert propose(five_by_five, apply(parent, Widen(1)), lineage=lineage, num_known=trial).accepted
    five_by_five.lease(request="next")
    claimed = five_by_five.of(TrialClaimed)[-1]
    assert claimed.lineage == Lineage(origin="worker", parent=trained.architecture_hash, morphs=("m",))
    assert trained.architecture_hash != parent.content_hash


def test_a_parent_is_looked_up_when_its_child_is_handed_out(five_by_five: FakeMaster) -> None:
    """A proposal may wait for longer than its parent's trial."""
    neutral = enlarged(INITIAL, 5)
    lineage = Lineage(origin="network_morphism", parent=neutral.content_hash)
    first = five_by_five.lease(request="r1").trial
    assert propose(five_by_five, apply(neutral, Widen(1)), lineage=lineage).accepted
    five_by_five.complete(first)
    five_by_five.lease(request="r2")
    trained = five_by_five.history.trials[first].claimed.architecture_hash
    assert five_by_five.of(TrialClaimed)[-1].lineage.parent == trained


# History ----------------------------------------------------------------------------------------------


def test_history_comes_in_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aibench.master.proposals.MAX_HISTORY_ENTRIES", 2)
    master = searching_worker()
    trials = [train(master, "r1"), train(master, "r2"), train(master, "r3")]
    failed = master.lease(request="r4").trial
    master.finish(failed, Outcome.FAILED)
    pages = [master.history_since(since) for since in (0, 2, 4)]
    assert [[entry.trial for entry in page.entries] for page in pages] == [trials[:2], trials[2:], []]
    assert [page.next_since for page in pages] == [2, 4, 4]


def test_a_stranger_gets_no_history() -> None:
    assert refused(409, FakeMaster().history_since, 0).must_join


def test_proposers_are_told_of_the_end() -> None:
    master = searching_worker()
    assert not master.history_since(0).stop
    master.coordinator.end(EndReason.SIGNAL)
    reply = master.history_since(0)
    assert (reply.stop, reply.wants_proposal) == (True, False)
    assert propose(master).stop


# The pool ---------------------------------------------------------------------------------------------


def test_proposals_are_wanted_from_the_first_result_until_enough_wait() -> None:
    master = searching_worker()
    wanted = [master.history_since(0).wants_proposal]
    train(master, "r1")
    for child in CHILDREN:
        reply = master.history_since(0)
        wanted.append(reply.wants_proposal)
        assert reply.pause_s == 0.05  # one worker, 20 proposals a second
        assert propose(master, child, num_known=1).accepted
    full = master.history_since(0)
    assert wanted == [False, True, True, True, True]
    assert (full.wants_proposal, full.pause_s) == (False, 1.05)
    master.lease(request="r2")
    assert master.history_since(0).wants_proposal


def test_a_run_of_many_workers_wants_more_proposals_from_each_less_often() -> None:
    master = FakeMaster(
        make_config(workers=[{"count": 40}], start={"min_workers": 1}, search=search_section())
    )
    master.join()
    train(master, "r1")
    for place in range(79):
        network = resnet("resnet18", Shape(3, 8, 8), 10, width=4 + place % 4)
        for _ in range(1 + place // 4):
            network = apply(network, Deepen(3, "conv"))
        propose(master, network, num_known=1)
    assert master.coordinator.num_waiting_proposals < 80
    reply = master.history_since(0)
    assert (reply.wants_proposal, reply.pause_s) == (True, 2.0)


def test_the_most_hopeful_proposal_becomes_the_next_trial() -> None:
    master = searching_worker()
    for child, bound in zip(CHILDREN, (0.4, 0.1, 0.3, 0.2), strict=True):
        propose(master, child, bound=bound)
    specs = [master.lease(request=request).architecture for request in ("r1", "r2")]
    assert specs == [CHILDREN[1].to_document(), CHILDREN[3].to_document()]


def test_what_the_worker_expects_of_its_proposal_is_recorded() -> None:
    master = searching_worker()
    propose(master, lineage=Lineage(origin="network_morphism", predicted_error=0.125))
    master.lease()
    assert master.of(TrialClaimed)[0].lineage == Lineage(origin="worker", predicted_error=0.125)


@pytest.mark.parametrize("error", [-0.01, 1.01])
def test_an_expectation_that_is_no_validation_error_is_refused(error: float) -> None:
    with pytest.raises(msgspec.ValidationError, match="predicted_error"):
        msgspec.convert({"origin": "evolution", "predicted_error": error}, Lineage)


def test_without_proposals_the_search_answers_itself() -> None:
    master = searching_worker()
    train(master, "r1")
    master.lease(request="r2")
    assert [event.lineage.origin for event in master.of(TrialClaimed)] == ["initial", "network_morphism"]


def test_a_proposal_of_a_single_worker_is_stale_when_it_misses_more_than_sixteen_trials() -> None:
    master = searching_worker()
    train(master, "r0")
    assert propose(master, CHILDREN[-1], bound=0.9, num_known=1).accepted
    network, stale = INITIAL, []
    for number in range(1, 18):
        network = apply(network, Deepen(3, "conv"))
        assert propose(master, network, bound=0.1, num_known=number).accepted
        train(master, f"r{number}")
        stale.append(master.coordinator.proposal_fates[Fate.STALE])
    assert stale == [0] * 16 + [1]
    assert master.coordinator.num_waiting_proposals == 0


def test_a_restarted_master_takes_proposals_that_build_on_all_it_replayed() -> None:
    master = searching_worker()
    train(master, "r1")
    train(master, "r2")
    resumed = master.restart()
    assert propose(resumed, num_known=2).accepted
    refusal = propose(resumed, CHILDREN[1], num_known=3)
    assert refusal.reason == "it builds on 3 closed trials: expected at most 2"


# Leases -----------------------------------------------------------------------------------------------


def test_a_proposer_is_no_sign_of_life_of_its_ranks() -> None:
    master = one_worker(search=search_section(), control={"lease_s": 60})
    master.lease()
    master.t_s = 61.0
    propose(master)
    master.history_since(0)
    master.coordinator.expire_leases()
    assert master.history.workers["w0"].lost_s == 61.0
    assert refused(409, propose, master, CHILDREN[1]).must_join
