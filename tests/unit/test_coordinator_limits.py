import itertools

import pytest
from support.fake_master import FakeMaster, make_search, one_worker, refused
from support.fake_workload import make_config

from aibench.api.events import (
    EndReason,
    Event,
    Outcome,
    RunEnded,
    StartBarrierOpened,
    TrialClaimed,
    TrialClosed,
    WorkerLost,
)
from aibench.api.workload import HyperParameters
from aibench.architecture import Architecture
from aibench.master.coordinator import BARRIER_POLL_S, MAX_POLLS_PER_S, Coordinator
from aibench.score.history import RunHistory
from aibench.search.search import Search

# The start barrier ------------------------------------------------------------------------------------


def test_trials_may_be_claimed_when_all_workers_have_joined() -> None:
    master = FakeMaster()
    master.join("w0")
    waiting = master.claim("w0")
    assert (waiting.spec, waiting.stop) == (None, False)
    assert waiting.retry_after_s is not None
    master.join("w1")
    assert master.of(StartBarrierOpened) == [StartBarrierOpened(workers=2, wanted_workers=2, timed_out=False)]
    assert master.lease("w0").trial == 1


def test_workers_that_wait_together_are_told_to_ask_one_after_another() -> None:
    names = [f"w{number}" for number in range(400)]
    master = FakeMaster(make_config(workers=[{"count": 401}]))
    for name in names:
        master.join(name)
    pauses_s = [master.claim(name).retry_after_s or 0.0 for name in names]
    assert pauses_s[0] == pytest.approx(BARRIER_POLL_S, abs=0.01)
    steps_s = [later - earlier for earlier, later in itertools.pairwise(pauses_s)]
    assert steps_s == pytest.approx([1 / MAX_POLLS_PER_S] * 399)
    master.t_s += pauses_s[-1]
    assert master.claim("w0").retry_after_s == pytest.approx(BARRIER_POLL_S, abs=0.01)


def test_min_workers_open_the_barrier_before_all_are_there() -> None:
    master = FakeMaster(make_config(start={"min_workers": 1}))
    master.join("w0")
    assert master.of(StartBarrierOpened) == [StartBarrierOpened(workers=1, wanted_workers=1, timed_out=False)]


def test_the_barrier_opens_with_fewer_workers_after_its_timeout() -> None:
    master = FakeMaster(make_config(start={"timeout_s": 30}))
    master.join("w0")
    master.t_s = 29.9
    master.coordinator.open_barrier_if_due()
    assert master.of(StartBarrierOpened) == []
    master.t_s = 30.0
    master.coordinator.open_barrier_if_due()
    master.coordinator.open_barrier_if_due()
    assert master.of(StartBarrierOpened) == [StartBarrierOpened(workers=1, wanted_workers=2, timed_out=True)]
    assert not master.coordinator.is_barrier_overdue


def test_without_any_worker_the_barrier_stays_shut_and_is_overdue() -> None:
    master = FakeMaster(make_config(start={"timeout_s": 30}))
    assert not master.coordinator.is_barrier_overdue
    master.t_s = 30.0
    master.coordinator.open_barrier_if_due()
    assert master.of(StartBarrierOpened) == []
    assert master.coordinator.is_barrier_overdue


def test_a_worker_that_was_lost_does_not_count_for_the_barrier() -> None:
    master = FakeMaster()
    master.join("w0")
    master.coordinator.lose("w0", "gone")
    master.join("w1")
    assert master.of(StartBarrierOpened) == []
    master.join("w0", life="b")
    assert len(master.of(StartBarrierOpened)) == 1


# Limits -----------------------------------------------------------------------------------------------


def test_the_measured_time_starts_with_the_first_trial() -> None:
    master = one_worker(limits={"measured_time_s": 100})
    master.t_s = 500.0
    assert master.coordinator.time_left_s == 100.0
    assert not master.coordinator.is_time_up
    master.lease()
    master.t_s = 540.0
    assert master.coordinator.time_left_s == 60.0
    assert master.coordinator.due_end is None
    master.t_s = 600.0
    assert master.coordinator.due_end is EndReason.TIME_LIMIT


def test_after_the_deadline_claims_get_stop_and_late_epochs_are_not_recorded() -> None:
    master = one_worker(limits={"measured_time_s": 100})
    trial = master.lease().trial
    master.t_s = 99.0
    assert not master.epoch(trial, 1).stop
    master.t_s = 100.0
    before = master.events
    assert master.claim(request="r2").stop
    assert master.epoch(trial, 2).stop
    assert not master.epoch(trial, 1).stop, "a repetition of what was in time is not late"
    assert master.events == before


def test_no_more_trials_than_the_limit_are_leased_and_the_run_ends_when_they_are_closed() -> None:
    master = one_worker(limits={"trials": 2})
    master.lease(request="r1")
    master.lease(request="r2")
    master.complete(1)
    assert master.claim(request="r3").stop
    assert master.claim(request="r2").spec is not None, "a lease stays a lease"
    assert master.coordinator.due_end is None
    master.complete(2)
    assert master.coordinator.due_end is EndReason.TRIAL_LIMIT
    assert master.coordinator.time_left_s is None


# Losing workers ---------------------------------------------------------------------------------------


def test_a_silent_worker_is_lost_with_finished_epochs_kept_and_the_cut_off_images_recorded() -> None:
    master = one_worker(control={"lease_s": 60})
    trial = master.lease().trial
    master.epoch(trial, 1)
    master.t_s = 10.0
    master.heartbeat(trial, train_images=30, validation_images=5)
    master.t_s = 70.0
    master.coordinator.expire_leases()
    assert master.of(WorkerLost) == []
    master.t_s = 70.1
    master.coordinator.expire_leases()
    master.coordinator.expire_leases()
    assert master.of(TrialClosed) == [
        TrialClosed(
            trial=trial,
            outcome=Outcome.LOST,
            reason="no sign of life for 60 s",
            unfinished_train_images=30,
            unfinished_validation_images=5,
        )
    ]
    assert [event.reason for event in master.of(WorkerLost)] == ["no sign of life for 60 s"]
    assert len(master.history.trials[trial].epochs) == 1
    assert master.history.trials[trial].error == 0.25


def test_images_of_an_epoch_that_was_finished_after_all_are_not_cut_off() -> None:
    master = one_worker()
    trial = master.lease().trial
    master.heartbeat(trial, train_images=30)
    master.epoch(trial, 1)
    master.coordinator.lose("w0", "gone")
    assert master.of(TrialClosed)[0].unfinished_train_images == 0


@pytest.mark.parametrize("say", ["claim", "epoch", "heartbeat"])
def test_a_lost_worker_must_join_before_it_is_heard_again(say: str) -> None:
    master = one_worker()
    trial = master.lease().trial
    master.coordinator.lose("w0", "gone")
    arguments = {"claim": (), "epoch": (trial, 1), "heartbeat": (trial,)}
    assert refused(409, getattr(master, say), *arguments[say]).must_join


def test_a_lost_worker_comes_back_in_the_same_life_without_its_old_trial() -> None:
    master = one_worker()
    trial = master.lease().trial
    master.t_s = 5.0
    master.coordinator.lose("w0", "gone")
    master.t_s = 8.0
    master.join()
    assert master.history.workers["w0"].away_s == [(5.0, 8.0)]
    assert refused(409, master.epoch, trial, 1).problem == f"trial {trial} is closed"
    assert master.lease(request="r2").trial == 2


def test_a_worker_that_joins_again_gets_a_whole_lease_of_silence() -> None:
    master = one_worker(control={"lease_s": 60})
    master.t_s = 100.0
    master.coordinator.expire_leases()
    master.join()
    master.t_s = 160.0
    master.coordinator.expire_leases()
    assert len(master.of(WorkerLost)) == 1
    master.t_s = 160.1
    master.coordinator.expire_leases()
    assert len(master.of(WorkerLost)) == 2


def test_silence_in_which_the_master_did_not_listen_is_forgiven() -> None:
    master = one_worker(control={"lease_s": 60})
    master.t_s = 100.0
    master.coordinator.extend_leases(40.0)
    master.coordinator.expire_leases()
    assert master.of(WorkerLost) == []
    master.t_s = 100.1
    master.coordinator.expire_leases()
    assert len(master.of(WorkerLost)) == 1


def test_losing_who_is_lost_or_unknown_changes_nothing() -> None:
    master = one_worker()
    master.coordinator.lose("w0", "gone")
    before = master.events
    master.coordinator.lose("w0", "gone")
    master.coordinator.lose("nobody", "gone")
    assert master.events == before


def test_a_worker_that_was_told_to_stop_may_go_silent() -> None:
    master = one_worker(limits={"trials": 1}, control={"lease_s": 60})
    master.lease()
    master.complete(1)
    assert master.claim(request="r2").stop
    assert master.coordinator.is_dismissed("w0")
    master.t_s = 1000.0
    master.coordinator.expire_leases()
    assert master.of(WorkerLost) == []


def test_a_worker_that_was_told_to_stop_but_still_holds_a_trial_is_lost_when_it_goes_silent() -> None:
    master = one_worker(limits={"trials": 1}, control={"lease_s": 60})
    master.lease()
    assert master.claim(request="r2").stop
    assert not master.coordinator.is_dismissed("w0")
    master.t_s = 1000.0
    master.coordinator.expire_leases()
    assert [event.outcome for event in master.of(TrialClosed)] == [Outcome.LOST]
    assert master.coordinator.due_end is EndReason.TRIAL_LIMIT


# The end ----------------------------------------------------------------------------------------------


def ended() -> FakeMaster:
    master = one_worker()
    master.lease(request="r1")
    master.lease(request="r2")
    master.epoch(1, 1)
    master.heartbeat(1, train_images=7)
    master.coordinator.end(EndReason.SIGNAL, "SIGTERM")
    return master


def test_the_end_closes_every_trial_and_comes_last() -> None:
    master = ended()
    assert [(e.trial, e.outcome, e.unfinished_train_images) for e in master.of(TrialClosed)] == [
        (1, Outcome.INTERRUPTED, 7),
        (2, Outcome.INTERRUPTED, 0),
    ]
    assert master.events[-1] == RunEnded(reason=EndReason.SIGNAL, detail="SIGTERM")
    assert master.coordinator.is_over


def test_after_the_end_everybody_is_told_to_stop_and_nothing_is_recorded() -> None:
    master = ended()
    before = master.events
    master.coordinator.end(EndReason.TIME_LIMIT)
    master.t_s = 10_000.0
    master.coordinator.expire_leases()
    master.coordinator.open_barrier_if_due()
    master.coordinator.lose("w0", "gone")
    assert master.join().stop
    assert master.join(life="b").stop
    assert master.join("newcomer").stop
    assert master.claim(request="r1").stop
    assert master.claim(request="r9").stop
    assert master.epoch(1, 1).stop
    assert master.epoch(1, 2).stop
    assert master.finish(1, Outcome.COMPLETED).stop
    assert master.heartbeat(1, train_images=9).stop
    assert master.events == before


# Going on after a restart of the master ---------------------------------------------------------------


def test_a_restarted_master_knows_leases_claims_and_rounds() -> None:
    master = one_worker()
    master.lease(request="r1")
    master.complete(1)
    spec = master.lease(request="r2")
    master.epoch(spec.trial, 1)
    resumed = master.restart()
    before = resumed.events
    assert resumed.claim(request="r2").spec == spec
    assert not resumed.epoch(spec.trial, 1).stop
    assert not resumed.heartbeat(spec.trial).stop
    assert resumed.join() is not None
    assert resumed.events == before
    resumed.epoch(spec.trial, 2)
    following = resumed.lease(request="r3")
    assert (following.trial, following.round, following.epochs) == (3, 3, 4)
    assert [e.trial for e in resumed.history_since(0).entries] == [1]


def test_a_restarted_master_tells_history_in_the_old_order_of_ends() -> None:
    master = one_worker()
    first, second = master.lease(request="r1").trial, master.lease(request="r2").trial
    master.complete(second)
    master.complete(first)
    expected = master.history_since(0)
    assert [entry.trial for entry in expected.entries] == [second, first]
    assert master.restart().history_since(0) == expected


def test_a_restarted_master_gives_workers_a_whole_lease_to_come_back() -> None:
    master = one_worker(control={"lease_s": 60})
    master.lease()
    master.t_s = 1000.0
    resumed = master.restart()
    resumed.t_s = 1060.0
    resumed.coordinator.expire_leases()
    assert resumed.of(WorkerLost) == []
    resumed.t_s = 1060.1
    resumed.coordinator.expire_leases()
    assert len(resumed.of(WorkerLost)) == 1


def test_the_time_that_a_replay_takes_is_no_silence_of_the_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    master = one_worker(control={"lease_s": 60})
    master.lease()
    search, clock_s, recorded = make_search(master.resolved), [1000.0], list[Event]()

    def slow_restore(trial: int, architecture: Architecture, hyper_parameters: HyperParameters) -> None:
        clock_s[0] += 100.0
        Search.restore(search, trial, architecture, hyper_parameters)

    monkeypatch.setattr(search, "restore", slow_restore)
    coordinator = Coordinator(
        master.resolved, RunHistory.of(master.records), search, recorded.append, lambda: clock_s[0]
    )
    clock_s[0] = 1160.0
    coordinator.expire_leases()
    assert recorded == []


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_a_restarted_master_searches_on_as_the_old_one_would_have(sampler: str) -> None:
    master = one_worker(search={"max_morphs": 2, "hyper_parameters": sampler})
    master.lease(request="r1")
    for number in range(2, 15):
        master.lease(request=f"r{number}")
        master.complete(number - 1, validation_correct=number)
    resumed = master.restart()
    for number in range(15, 20):
        for life in (master, resumed):
            life.lease(request=f"r{number}")
            life.complete(number - 1, validation_correct=number)
    claims, resumed_claims = master.of(TrialClaimed), resumed.of(TrialClaimed)
    assert resumed_claims == claims
    assert len({claim.architecture_hash for claim in claims}) > 10


def test_ten_failures_in_a_row_before_any_epoch_end_the_run() -> None:
    master = one_worker()
    for trial in range(1, 11):
        assert master.coordinator.due_end is None
        master.lease(request=f"r{trial}")
        master.finish(trial, Outcome.FAILED, reason="no such file")
    assert master.coordinator.due_end is EndReason.FAILURES


def test_an_epoch_in_between_starts_the_count_of_failures_anew() -> None:
    master = one_worker()
    for trial in range(1, 12):
        master.lease(request=f"r{trial}")
        if trial == 5:
            master.epoch(trial, 1)
        master.finish(trial, Outcome.FAILED, reason="no such file")
    assert master.coordinator.due_end is None


def test_an_epoch_of_another_network_than_the_counted_is_refused() -> None:
    master = one_worker()
    trial = master.lease().trial
    counted = master.history.trials[trial].claimed.parameters
    refusal = refused(422, master.epoch, trial, 1, parameters=counted + 1)
    assert refusal.problem == f"a network of {counted + 1} parameters was trained, {counted} were counted"
    assert master.history.trials[trial].epochs[:] == []
