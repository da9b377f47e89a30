from __future__ import annotations

import pytest
from support.runs import RunBuilder, times

from aibench.api.events import EndReason, Outcome, RunEnded
from aibench.errors import JournalError
from aibench.score.history import RunHistory


def ready() -> RunBuilder:
    """Three records: w0 with two ranks may claim."""
    return RunBuilder().start().join("w0", ranks=2, t_s=1.0).barrier(t_s=2.0)


def assert_refused(builder: RunBuilder, problem: str) -> None:
    """The last record contradicts those before it, and none of those any other."""
    *before, last = builder.records
    history = RunHistory.of(before)
    with pytest.raises(JournalError) as refusal:
        history.apply(last)
    assert str(refusal.value) == (
        f"journal line {len(before) + 1}: {problem}; the {len(before)} record(s) before it are intact"
    )


def test_a_whole_run_is_read_as_it_happened() -> None:
    builder = ready().claim("w0", epochs=2, t_s=10.0)
    builder.epoch(1, correct=40, t_s=20.0).epoch(1, correct=30, t_s=30.0).close(1, t_s=31.0)
    records = builder.end(t_s=40.0, reason=EndReason.TRIAL_LIMIT)
    history = RunHistory.of(records)
    trial = history.trials[1]
    assert history.header is records[0].event
    assert history.barrier is records[2].event
    assert history.start_s == 10.0
    assert (trial.number, trial.claimed_s, trial.closed_s) == (1, 10.0, 31.0)
    assert [epoch.t_s for epoch in trial.epochs] == [20.0, 30.0]
    assert (trial.error, trial.is_open, trial.scores) == (0.6, False, True)
    assert history.open_trials == {}
    assert history.ended == RunEnded(reason=EndReason.TRIAL_LIMIT, detail="")
    assert history.last is records[-1]
    assert history.workers["w0"].num_claimed == 1


def test_nothing_has_happened_before_the_first_record() -> None:
    history = RunHistory()
    assert (history.started, history.ended, history.last, history.start_s) == (None, None, None, None)


def test_the_clock_starts_with_the_first_claim_not_with_the_first_to_finish() -> None:
    builder = ready().claim(t_s=5.0).claim(t_s=6.0).epoch(2, t_s=8.0, ranks=(times(), times()))
    assert RunHistory.of(builder.records).start_s == 5.0


def test_open_trials_are_those_with_a_lease() -> None:
    history = RunHistory.of(ready().claim().claim().epoch(1).close(1).records)
    assert list(history.trials) == [1, 2]
    assert list(history.open_trials) == [2]
    assert history.trials[2].is_open


@pytest.mark.parametrize(
    ("outcome", "error"),
    [
        (Outcome.COMPLETED, 0.25),
        (Outcome.LOST, 0.25),
        (Outcome.INTERRUPTED, 0.25),
        (Outcome.FAILED, None),
    ],
)
def test_a_failed_trial_has_no_error_and_any_other_its_lowest(outcome: Outcome, error: float | None) -> None:
    builder = ready().claim(epochs=2).epoch(correct=75).epoch(correct=60)
    assert RunHistory.of(builder.records).trials[1].error == 0.25
    assert RunHistory.of(builder.close(1, outcome).records).trials[1].error == error


def test_a_trial_without_an_epoch_has_no_error() -> None:
    assert RunHistory.of(ready().claim().records).trials[1].error is None


def test_errors_are_exact() -> None:
    for correct, images, error in ((49, 49, 0.0), (7, 10, 0.3), (0, 3, 1.0)):
        builder = ready().claim().epoch(correct=correct, validation_images=images)
        assert RunHistory.of(builder.records).trials[1].error == error


def test_a_worker_that_comes_back_was_away_in_between() -> None:
    builder = ready().lose("w0", t_s=10.0).join("w0", incarnation="b", ranks=2, t_s=25.0)
    builder.lose("w0", t_s=30.0)
    worker = RunHistory.of(builder.records).workers["w0"]
    assert worker.away_s == [(10.0, 25.0)]
    assert (worker.joined_s, worker.lost_s, worker.joined.incarnation) == (1.0, 30.0, "b")


def test_a_new_life_of_a_worker_keeps_its_number_of_trials() -> None:
    builder = ready().claim("w0").epoch().close().join("w0", incarnation="b", ranks=2).claim("w0")
    assert RunHistory.of(builder.records).workers["w0"].num_claimed == 2


def test_a_resumed_run_goes_on() -> None:
    builder = ready().claim(epochs=2).epoch().resume(t_s=50.0, clock="wall").epoch()
    history = RunHistory.of(builder.close().end())
    assert [resumed.clock for resumed in history.resumes] == ["wall"]
    assert len(history.trials[1].epochs) == 2


def test_a_run_starts_with_its_first_record() -> None:
    assert_refused(RunBuilder().join(), "a run starts once, with its first record")


def test_a_run_starts_once() -> None:
    assert_refused(ready().start(), "a run starts once, with its first record")


def test_nothing_happens_after_the_end() -> None:
    assert_refused(_ended().resume(), "the run has ended already")
    assert_refused(_ended().claim(), "the run has ended already")
    builder = _ended()
    builder.end()
    assert_refused(builder, "the run has ended already")


def _ended() -> RunBuilder:
    builder = ready()
    builder.end()
    return builder


def test_a_run_ends_without_leases() -> None:
    builder = ready().claim()
    builder.end()
    assert_refused(builder, "the run ends with trial 1 still leased")


def test_the_barrier_opens_once() -> None:
    assert_refused(ready().barrier(), "the start barrier is open already")


def test_nothing_is_claimed_before_the_barrier() -> None:
    assert_refused(RunBuilder().start().join().claim(), "trial 1 claimed before the start barrier opened")


def test_trials_are_numbered_without_gaps() -> None:
    assert_refused(ready().claim(trial=2), "trial 2 claimed where 1 is due")
    assert_refused(ready().claim().claim(trial=1), "trial 1 claimed where 2 is due")


def test_strangers_do_not_claim() -> None:
    assert_refused(ready().claim("w1"), "worker 'w1' never joined")


def test_a_past_life_does_not_claim() -> None:
    builder = ready().join("w0", incarnation="b").claim("w0", incarnation="a")
    assert_refused(builder, "trial 1 claimed by a past life of 'w0'")


def test_a_lost_worker_does_not_claim() -> None:
    assert_refused(ready().lose("w0").claim("w0"), "trial 1 claimed by a past life of 'w0'")


def test_a_new_life_begins_without_leases() -> None:
    builder = ready().claim("w0").join("w0", incarnation="b")
    assert_refused(builder, "trial 1 is still leased to the past life of 'w0'")


def test_other_workers_leases_do_not_matter_to_a_new_life() -> None:
    builder = ready().join("w1").claim("w1").join("w0", incarnation="b").lose("w0")
    assert RunHistory.of(builder.records).open_trials[1].claimed.worker == "w1"


def test_strangers_are_not_lost() -> None:
    assert_refused(ready().lose("w1", incarnation="a"), "worker 'w1' never joined")


def test_a_worker_is_lost_once_and_in_its_present_life() -> None:
    problem = "'w0' is lost in a life that is over"
    assert_refused(ready().lose("w0").lose("w0"), problem)
    assert_refused(ready().join("w0", incarnation="b").lose("w0", incarnation="a"), problem)


def test_a_lost_worker_leaves_no_lease() -> None:
    assert_refused(ready().claim().lose(), "trial 1 is still leased to the past life of 'w0'")


def test_epochs_belong_to_open_trials() -> None:
    assert_refused(ready().epoch(1), "trial 1 is not leased to anyone")
    assert_refused(
        ready().claim(epochs=2).epoch().close(1, Outcome.LOST).epoch(), "trial 1 is not leased to anyone"
    )


def test_epochs_come_in_order_and_no_more_than_due() -> None:
    builder = ready().claim(epochs=2)
    assert_refused(builder.epoch(epoch=2), "trial 1: epoch 2 finished where 1 of 2 is due")
    builder = ready().claim(epochs=2).epoch().epoch(epoch=1)
    assert_refused(builder, "trial 1: epoch 1 finished where 2 of 2 is due")
    builder = ready().claim(epochs=2).epoch().epoch().epoch()
    assert_refused(builder, "trial 1: epoch 3 finished where 3 of 2 is due")


def test_no_more_images_are_right_than_were_looked_at() -> None:
    builder = ready().claim().epoch(correct=11, validation_images=10)
    assert_refused(builder, "trial 1: 11 of 10 correct")


def test_every_rank_tells_its_times() -> None:
    builder = ready().claim().epoch(ranks=(times(),))
    assert_refused(builder, "trial 1: times of 1 ranks, not 2")


def test_only_open_trials_close() -> None:
    assert_refused(ready().close(1), "trial 1 is not leased to anyone")
    assert_refused(ready().claim().epoch().close().close(), "trial 1 is not leased to anyone")


def test_a_completed_trial_has_all_its_epochs() -> None:
    builder = ready().claim(epochs=3).epoch().epoch().close(1, Outcome.COMPLETED)
    assert_refused(builder, "trial 1: completed with 2 of 3 epochs")


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.LOST, Outcome.INTERRUPTED])
def test_any_other_end_may_come_early(outcome: Outcome) -> None:
    history = RunHistory.of(ready().claim(epochs=3).epoch().close(1, outcome, reason="why").end())
    closed = history.trials[1].closed
    assert closed is not None
    assert (closed.outcome, closed.reason) == (outcome, "why")


@pytest.mark.parametrize("num_epochs", [0, 3])
def test_a_trial_is_stopped_after_some_of_its_epochs_not_after_none_or_all(num_epochs: int) -> None:
    builder = ready().claim(epochs=3)
    for _ in range(num_epochs):
        builder.epoch()
    assert_refused(builder.close(1, Outcome.STOPPED), f"trial 1: stopped with {num_epochs} of 3 epochs")


def test_the_epochs_of_a_stopped_trial_count() -> None:
    builder = ready().claim(epochs=3).epoch(correct=40).epoch(correct=30).close(1, Outcome.STOPPED)
    trial = RunHistory.of(builder.records).trials[1]
    assert (trial.scores, trial.errors, trial.error) == (True, [0.6, 0.7], 0.6)


def test_the_search_was_told_the_predicted_error_where_there_is_one_and_else_the_best() -> None:
    builder = ready().claim().claim().claim().epoch(1).epoch(2).epoch(3)
    builder.close(1).close(2, search_error=0.125).close(3, Outcome.FAILED)
    trials = RunHistory.of(builder.records).trials
    assert [trials[number].search_error for number in (1, 2, 3)] == [0.5, 0.125, None]
    assert [trials[number].error for number in (1, 2, 3)] == [0.5, 0.5, None]


def test_an_epoch_knows_how_many_trials_were_closed_before_it() -> None:
    builder = ready().claim().claim(epochs=2).epoch(2).epoch(1).close(1).epoch(2)
    trials = RunHistory.of(builder.records).trials
    assert [epoch.num_closed_trials for epoch in trials[2].epochs] == [0, 1]
