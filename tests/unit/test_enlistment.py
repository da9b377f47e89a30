import time

import pytest
from support.fake_master import FakeMaster, refused

from aibench import __version__
from aibench.api.events import EndReason, WorkerJoined


def test_places_become_the_workers_of_their_pool_in_order_and_stay_them() -> None:
    master = FakeMaster()
    assert [master.enlist(place).worker for place in ("pod-a", "pod-b", "pod-a")] == ["w0", "w1", "w0"]


def test_a_place_too_many_waits_until_a_worker_is_lost() -> None:
    master = FakeMaster()
    for place in ("pod-a", "pod-b"):
        name = master.enlist(place).worker
        assert name is not None
        master.join(name, place, host=place)
    waiting = master.enlist("pod-c")
    assert waiting.worker is None
    assert waiting.retry_after_s is not None
    master.coordinator.lose("w0", "its pod was deleted")
    assert master.enlist("pod-c").worker == "w0"


def test_a_place_that_was_lost_and_came_back_is_the_same_worker() -> None:
    master = FakeMaster()
    master.enlist("pod-a")
    master.enlist("pod-b")
    master.join("w1", "b", host="pod-b")
    master.coordinator.lose("w1", "silence")
    assert master.enlist("pod-b").worker == "w1"


def test_a_promise_that_nobody_keeps_lapses() -> None:
    master = FakeMaster()
    master.enlist("pod-a")
    master.enlist("pod-b")
    assert master.enlist("pod-c").worker is None
    master.t_s += master.resolved.config.start.timeout_s
    assert master.enlist("pod-c").worker == "w0"


def test_a_restarted_master_knows_who_is_who_by_the_journal() -> None:
    master = FakeMaster()
    master.join("w1", "b", host="pod-b")
    master = master.restart()
    assert master.enlist("pod-b").worker == "w1"
    assert master.enlist("pod-c").worker == "w0"


def test_an_unknown_pool_is_refused_and_a_run_that_is_over_sends_places_away() -> None:
    master = FakeMaster()
    refusal = refused(404, master.enlist, "pod-a", "p7")
    assert refusal.problem == "no pool 'p7'; expected one of p0"
    master.coordinator.end(EndReason.SIGNAL)
    assert master.enlist("pod-a").stop


def test_another_release_is_refused_with_both_named() -> None:
    master = FakeMaster()
    refusal = refused(412, master.join, version="0.0.7", host="n3")
    assert refusal.problem == (
        f"worker w0 on n3 runs aibench 0.0.7, the master {__version__}; install the same release on all nodes"
    )
    assert master.of(WorkerJoined) == []
    assert master.coordinator.unfit_workers == {"w0": refusal.problem}


@pytest.mark.parametrize(("skew_s", "word"), [(5.0, "ahead"), (-5.0, "behind")])
def test_a_clock_that_is_off_is_refused_with_how_much(skew_s: float, word: str) -> None:
    master = FakeMaster()
    refusal = refused(412, lambda: master.join(unix_s=time.time() + skew_s, host="n3"))
    assert refusal.problem.startswith("the clock of worker w0 on n3 is ")
    assert f" s {word}; expected at most 2 s" in refusal.problem


def test_a_worker_whose_fault_was_mended_may_join() -> None:
    master = FakeMaster()
    refused(412, master.join, version="0.0.7")
    master.join(unix_s=time.time() + 1.0)
    assert master.coordinator.unfit_workers == {}
    assert [event.worker for event in master.of(WorkerJoined)] == ["w0"]
