from typing import Any

import pytest
from support.fake_master import FakeMaster, one_worker, refused
from support.fake_workload import make_config

from aibench.api.events import (
    EpochFinished,
    Lineage,
    Outcome,
    TrialClaimed,
    TrialClosed,
    WorkerJoined,
)
from aibench.api.protocol import ProposeRequest
from aibench.architecture import Shape
from aibench.architecture.resnet import resnet

# Joining ----------------------------------------------------------------------------------------------


def test_a_gang_that_joins_is_told_what_to_train_and_how_often_to_be_heard() -> None:
    master = FakeMaster(make_config(control={"heartbeat_s": 2, "lease_s": 9, "master_timeout_s": 77}))
    reply = master.join()
    assert (reply.run, reply.workload, reply.stop) == ("run", "fake", False)
    assert reply.workload_options == {"width": 4, "refused": ""}
    assert (reply.heartbeat_s, reply.master_timeout_s) == (2.0, 77.0)


def test_joining_again_with_the_same_incarnation_changes_nothing() -> None:
    master = one_worker()
    before = master.events
    assert master.join() == master.join()
    assert master.events == before


def test_a_new_incarnation_closes_the_leases_of_the_old_one_and_keeps_their_epochs() -> None:
    master = one_worker()
    trial = master.lease().trial
    master.epoch(trial, 1)
    master.join(life="b")
    assert master.history.trials[trial].closed == TrialClosed(
        trial=trial,
        outcome=Outcome.LOST,
        reason="its worker restarted",
        unfinished_train_images=0,
        unfinished_validation_images=0,
    )
    assert len(master.history.trials[trial].epochs) == 1
    assert [event.incarnation for event in master.of(WorkerJoined)] == ["a", "b"]
    assert refused(409, master.claim, life="a").must_join
    assert master.lease(life="b").trial == 2


def test_a_gang_that_was_replaced_is_sent_away_and_does_not_come_back() -> None:
    master = one_worker()
    master.join(life="b")
    trial = master.lease(life="b").trial
    before = master.events
    assert master.join(life="a").stop
    assert master.events == before
    assert not master.join(life="b").stop
    assert not master.epoch(trial, 1, life="b").stop


# Claiming ---------------------------------------------------------------------------------------------


def test_a_claim_leases_numbered_trials_with_the_epoch_budget_of_the_workers_round() -> None:
    master = one_worker()
    specs = []
    for number in range(1, 5):
        specs.append(master.lease(request=f"r{number}"))
        master.complete(number)
    assert [spec.trial for spec in specs] == [1, 2, 3, 4]
    assert [spec.round for spec in specs] == [1, 2, 3, 4]
    assert [spec.epochs for spec in specs] == [2, 3, 4, 4]
    assert [spec.seed for spec in specs] == [2, 3, 4, 5]


def test_rounds_are_counted_for_each_worker_and_over_all_its_lives() -> None:
    master = FakeMaster()
    master.join("w0")
    master.join("w1")
    assert master.lease("w0", request="r1").round == 1
    assert master.lease("w0", request="r2").round == 2
    assert master.lease("w1", request="r3").round == 1
    master.join("w0", life="b")
    assert master.lease("w0", life="b", request="r4").round == 3


def test_a_claim_records_what_the_trial_will_be_counted_by() -> None:
    master = one_worker()
    spec = master.lease()
    (claimed,) = master.of(TrialClaimed)
    assert claimed.spec == spec
    assert (claimed.worker, claimed.incarnation, claimed.request) == ("w0", "a", "r1")
    assert claimed.lineage == Lineage(origin="initial")
    assert claimed.architecture_hash == master.resolved.initial.content_hash
    assert claimed.train_ops > claimed.evaluation_ops > 0


def test_the_same_request_gets_the_same_trial_and_records_nothing_more() -> None:
    master = one_worker()
    first = master.claim(request="r1")
    second = master.claim(request="r2")
    before = master.events
    assert master.claim(request="r1") == first
    assert master.claim(request="r2") == second
    assert first.spec != second.spec
    assert master.events == before


def test_the_same_request_of_another_worker_gets_another_trial() -> None:
    master = FakeMaster()
    master.join("w0")
    master.join("w1")
    assert master.lease("w0", request="r").trial == 1
    assert master.lease("w1", request="r").trial == 2


def test_a_third_lease_is_refused_until_one_ends() -> None:
    master = one_worker()
    master.lease(request="r1")
    master.lease(request="r2")
    refusal = refused(409, master.claim, request="r3")
    assert "holds 2 leases" in refusal.problem
    assert not refusal.must_join
    master.complete(1)
    assert master.lease(request="r3").trial == 3


@pytest.mark.parametrize("say", ["claim", "epoch", "finish", "heartbeat"])
@pytest.mark.parametrize("who", [("stranger", "a"), ("w0", "other life")])
def test_who_has_not_joined_in_this_life_must_join(say: str, who: tuple[str, str]) -> None:
    master = one_worker()
    trial = master.lease().trial
    before = master.events
    arguments: dict[str, tuple[Any, ...]] = {
        "claim": who,
        "epoch": (trial, 1, *who),
        "finish": (trial, Outcome.FAILED, *who),
        "heartbeat": (trial, *who),
    }
    assert refused(409, getattr(master, say), *arguments[say]).must_join
    assert master.events == before


# Epochs -----------------------------------------------------------------------------------------------


def test_epochs_are_recorded_once_with_the_time_the_ranks_waited() -> None:
    master = one_worker()
    trial = master.lease().trial
    assert not master.epoch(trial, 1).stop
    before = master.events
    assert not master.epoch(trial, 1).stop
    assert master.events == before
    (event,) = master.of(EpochFinished)
    assert (event.trial, event.result.epoch, event.search_wait_s) == (trial, 1, 0.0)


@pytest.mark.parametrize("epoch", [2, 7])
def test_an_epoch_out_of_order_is_refused(epoch: int) -> None:
    master = one_worker()
    refusal = refused(409, master.epoch, master.lease().trial, epoch)
    assert refusal.problem == f"epoch {epoch} arrived where 1 of 2 is due"


def test_an_epoch_beyond_the_budget_is_refused() -> None:
    master = one_worker()
    trial = master.lease().trial
    master.epoch(trial, 1)
    master.epoch(trial, 2)
    assert "epoch 3 arrived" in refused(409, master.epoch, trial, 3).problem


def test_a_repeated_epoch_with_another_result_is_refused() -> None:
    master = one_worker()
    trial = master.lease().trial
    master.epoch(trial, 1)
    refusal = refused(409, master.epoch, trial, 1, validation_correct=16)
    assert "recorded differently" in refusal.problem


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"validation_correct": 21}, "21 of 20 images correct"),
        ({"train_images": 101}, "101 train images in an epoch of 100"),
        ({"validation_images": 21}, "21 validation images of 20"),
        ({"ranks": ()}, "times of 0 ranks from a gang of 1"),
    ],
)
def test_a_result_that_cannot_be_is_refused_and_not_recorded(changes: dict[str, Any], problem: str) -> None:
    master = one_worker()
    trial = master.lease().trial
    assert refused(422, master.epoch, trial, 1, **changes).problem == problem
    assert master.of(EpochFinished) == []


@pytest.mark.parametrize("say", ["epoch", "finish", "heartbeat"])
@pytest.mark.parametrize("trial", [1, 99])
def test_nobody_speaks_for_the_trial_of_another(say: str, trial: int) -> None:
    master = FakeMaster()
    master.join("w0")
    master.join("w1")
    master.lease("w0")
    arguments = {
        "epoch": (trial, 1, "w1"),
        "finish": (trial, Outcome.FAILED, "w1"),
        "heartbeat": (trial, "w1"),
    }
    refusal = refused(409, getattr(master, say), *arguments[say])
    assert refusal.problem == f"trial {trial} is not leased to worker 'w1'"
    assert not refusal.must_join


@pytest.mark.parametrize("say", ["epoch", "finish", "heartbeat"])
def test_a_new_life_does_not_speak_for_the_trial_of_the_old_one(say: str) -> None:
    master = one_worker()
    trial = master.lease().trial
    master.join(life="b")
    arguments = {
        "epoch": (trial, 1, "w0", "b"),
        "finish": (trial, Outcome.FAILED, "w0", "b"),
        "heartbeat": (trial, "w0", "b"),
    }
    refusal = refused(409, getattr(master, say), *arguments[say])
    assert refusal.problem == f"trial {trial} is not leased to worker 'w0'"


# Finishing --------------------------------------------------------------------------------------------


def test_a_complete_trial_is_closed_once() -> None:
    master = one_worker()
    trial = master.lease().trial
    master.complete(trial)
    before = master.events
    assert not master.finish(trial, Outcome.COMPLETED).stop
    assert master.events == before
    assert [event.outcome for event in master.of(TrialClosed)] == [Outcome.COMPLETED]
    assert refused(409, master.epoch, trial, 3).problem == f"trial {trial} is closed"
    assert "is closed as completed" in refused(409, master.finish, trial, Outcome.FAILED).problem


def test_a_trial_with_missing_epochs_is_not_completed() -> None:
    master = one_worker()
    trial = master.lease().trial
    master.epoch(trial, 1)
    assert refused(409, master.finish, trial, Outcome.COMPLETED).problem == "trial 1 has 1 of 2 epochs"
    assert master.history.trials[trial].is_open


def test_a_failed_trial_records_its_reason_and_what_was_cut_off() -> None:
    master = one_worker()
    trial = master.lease().trial
    master.finish(
        trial,
        Outcome.FAILED,
        reason="loss is nan",
        unfinished_train_images=40,
        unfinished_validation_images=3,
    )
    assert master.of(TrialClosed) == [
        TrialClosed(
            trial=trial,
            outcome=Outcome.FAILED,
            reason="loss is nan",
            unfinished_train_images=40,
            unfinished_validation_images=3,
        )
    ]


@pytest.mark.parametrize("outcome", [Outcome.LOST, Outcome.INTERRUPTED])
def test_only_the_master_says_that_a_trial_is_lost_or_interrupted(outcome: Outcome) -> None:
    master = one_worker()
    assert (
        "a worker reports completed, failed or stopped"
        in refused(422, master.finish, master.lease().trial, outcome).problem
    )


# Proposals and history --------------------------------------------------------------------------------


def propose(master: FakeMaster, width: int = 6, classes: int = 10) -> Any:
    architecture = resnet("resnet18", Shape(3, 8, 8), classes, width=width)
    request = ProposeRequest(
        worker="w0",
        incarnation="a",
        architecture=architecture.to_document(),
        lineage=Lineage(origin="me", parent="p"),
        bound=0.5,
        num_known=0,
    )
    return master.coordinator.propose(request)


def test_a_proposal_becomes_the_next_trial() -> None:
    master = one_worker()
    assert propose(master).accepted
    again = propose(master)
    assert (again.accepted, again.reason) == (False, "the same network waits in the pool already")
    master.lease()
    (claimed,) = master.of(TrialClaimed)
    assert claimed.lineage == Lineage(origin="worker", parent="p")
    assert claimed.architecture_hash == resnet("resnet18", Shape(3, 8, 8), 10, width=6).content_hash


def test_a_proposal_of_another_shape_is_declined_with_the_reason() -> None:
    reply = propose(one_worker(), classes=7)
    assert not reply.accepted
    assert reply.reason.startswith("output shape ")


def test_a_stranger_may_not_propose() -> None:
    assert refused(409, propose, FakeMaster()).must_join


def test_history_lists_closed_trials_with_an_error_in_the_order_of_their_end() -> None:
    master = one_worker()
    first, second = master.lease(request="r1").trial, master.lease(request="r2").trial
    master.complete(second, validation_correct=18)
    third = master.lease(request="r3").trial
    master.finish(third, Outcome.FAILED)
    master.complete(first)
    reply = master.history_since(0)
    assert [(entry.trial, entry.error) for entry in reply.entries] == [(second, 0.1), (first, 0.25)]
    assert reply.next_since == 3
    assert [entry.trial for entry in master.history_since(1).entries] == [first]
    assert master.history_since(reply.next_since).entries == ()
    assert master.history_since(50).next_since == 50
