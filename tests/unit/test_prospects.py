from typing import Any

import pytest
from support.fake_master import FakeMaster, one_worker, refused

from aibench.api.events import EpochFinished, Outcome, TrialClosed
from aibench.search.search import Search

Told = list[tuple[int, float | None]]


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    """What any search is told from now on."""
    found: Told = []
    tell = Search.tell

    def note(search: Search, trial: int, error: float | None) -> None:
        found.append((trial, error))
        tell(search, trial, error)

    monkeypatch.setattr(Search, "tell", note)
    return found


def a_master(**search: Any) -> FakeMaster:
    """Trials of 8 epochs, after a first of 4; 20 validation images."""
    return one_worker(
        epochs={"warmup": [4], "full": 8}, search={"max_morphs": 1, "hyper_parameters": "random", **search}
    )


def lease(master: FakeMaster) -> int:
    return master.lease(request=f"r{len(master.history.trials) + 1}").trial


def train(master: FakeMaster, trial: int, *correct: int) -> list[bool]:
    """Report the trial's next epochs; whether each answer asked to stop it."""
    first = len(master.history.trials[trial].epochs) + 1
    return [
        master.epoch(trial, epoch, validation_correct=number).stop_trial
        for epoch, number in enumerate(correct, start=first)
    ]


def closed(master: FakeMaster, trial: int) -> TrialClosed:
    event = master.history.trials[trial].closed
    assert event is not None
    return event


# What the search is told ------------------------------------------------------------------------------


def test_a_warm_up_trial_is_told_by_the_error_predicted_at_the_full_budget(told: Told) -> None:
    master = a_master()
    trial = lease(master)
    train(master, trial, 4, 8, 12, 16)
    master.finish(trial, Outcome.COMPLETED)
    predicted = closed(master, trial).search_error
    # Twice the epochs: 0.2 · 2^-0.3.
    assert predicted == pytest.approx(0.162450, abs=1e-6)
    assert told == [(trial, predicted)]
    assert master.history.trials[trial].error == pytest.approx(0.2)
    assert [entry.error for entry in master.history_since(0).entries] == [predicted]


def test_without_prediction_the_best_error_is_told(told: Told) -> None:
    master = a_master(predict_accuracy=False)
    trial = lease(master)
    train(master, trial, 4, 8, 12, 16)
    master.finish(trial, Outcome.COMPLETED)
    assert closed(master, trial).search_error is None
    assert told == [(trial, 0.2)]


def test_a_trial_of_the_full_budget_is_told_by_its_best_error(told: Told) -> None:
    master = a_master()
    lease(master)
    trial = lease(master)
    train(master, trial, 4, 8, 12, 16, 17, 18, 19, 18)
    master.finish(trial, Outcome.COMPLETED)
    assert closed(master, trial).search_error is None
    assert told == [(trial, 0.05)]


def test_interrupted_and_lost_trials_are_predicted_too(told: Told) -> None:
    master = a_master()
    first = lease(master)
    train(master, first, 4, 8, 12)
    master.coordinator.lose("w0", "gone")
    predicted = closed(master, first).search_error
    assert predicted is not None
    assert 0 < predicted < 0.4
    assert told == [(first, predicted)]


def test_a_trial_that_failed_or_has_no_epoch_tells_nothing(told: Told) -> None:
    master = a_master()
    first, second = lease(master), lease(master)
    train(master, first, 4, 8, 12)
    master.finish(first, Outcome.FAILED)
    master.coordinator.lose("w0", "gone")
    assert told == [(first, None), (second, None)]
    assert closed(master, first).search_error is None


def test_a_resumed_search_is_told_what_was_recorded_not_what_is_predicted_now(
    told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    master = a_master()
    trial = lease(master)
    train(master, trial, 4, 8, 12, 16)
    master.finish(trial, Outcome.COMPLETED)
    before = list(told)
    told.clear()
    monkeypatch.setattr("aibench.master.prospects.predict_full", lambda *_: 0.01)
    master.restart()
    assert told == before


# What epochs are recorded with ------------------------------------------------------------------------


def test_epochs_from_the_third_to_the_last_but_one_carry_a_prediction() -> None:
    master = a_master()
    lease(master)
    trial = lease(master)
    train(master, trial, 4, 8, 12, 12, 14, 16, 16, 18)
    first, second, *predictions, last = [event.predicted_error for event in master.of(EpochFinished)]
    assert (first, second, last) == (None, None, None)
    assert 0 < predictions[0] < 0.4
    assert 0.2 < predictions[2] < 0.3
    assert predictions[3:] == [0.2, 0.2], "late in a trial, the error so far"


# Stopping ---------------------------------------------------------------------------------------------


def test_nobody_is_asked_to_stop_by_default() -> None:
    master = a_master()
    lease(master)
    assert train(master, lease(master), *[4] * 8) == [False] * 8


def test_a_stalled_trial_is_stopped_and_its_epochs_stand() -> None:
    master = a_master(patience_epochs=2)
    lease(master)
    trial = lease(master)
    assert train(master, trial, 4, 8, 8, 7) == [False, False, False, True]
    assert train(master, trial, 12) == [True], "once asked, always asked, better or not"
    assert not master.finish(trial, Outcome.STOPPED).stop
    event = closed(master, trial)
    assert (event.outcome, event.reason) == (Outcome.STOPPED, "stalled: no better error in 2 epochs")
    assert (event.unfinished_train_images, event.unfinished_validation_images) == (0, 0)
    assert master.history.trials[trial].scores
    assert master.history.trials[trial].error == pytest.approx(0.4)
    before = master.events
    master.finish(trial, Outcome.STOPPED)
    assert master.events == before


def test_a_repeated_epoch_gets_the_same_answer_also_from_a_resumed_master() -> None:
    master = a_master(patience_epochs=2)
    lease(master)
    trial = lease(master)
    train(master, trial, 4, 8, 8, 8)
    before = len(master.records)
    resumed = master.restart()
    for life in (master, resumed):
        assert life.epoch(trial, 4, validation_correct=8).stop_trial
        assert life.epoch(trial, 5, validation_correct=9).stop_trial
        life.finish(trial, Outcome.STOPPED)
        assert life.epoch(trial, 5, validation_correct=9).stop_trial
    assert len(master.records) == before + 2
    assert closed(resumed, trial) == closed(master, trial)


def test_a_trial_that_nobody_asked_to_stop_is_not_closed_as_stopped() -> None:
    master = a_master(patience_epochs=2)
    lease(master)
    trial = lease(master)
    train(master, trial, 4, 8, 8)
    assert refused(409, master.finish, trial, Outcome.STOPPED).problem == "nobody asked to stop trial 2"
    assert master.history.trials[trial].is_open


def test_a_trial_that_trained_on_to_its_last_epoch_is_completed_not_stopped() -> None:
    master = a_master(patience_epochs=2)
    lease(master)
    trial = lease(master)
    train(master, trial, 4, 8, 8, 8, 8, 8, 8, 8)
    refusal = refused(409, master.finish, trial, Outcome.STOPPED)
    assert refusal.problem == "trial 2 has all of its 8 epochs"
    master.finish(trial, Outcome.COMPLETED)
    assert closed(master, trial).outcome is Outcome.COMPLETED


def good_trials(master: FakeMaster, num: int) -> None:
    for _ in range(num):
        trial = lease(master)
        train(master, trial, *[18] * master.history.trials[trial].claimed.spec.epochs)
        master.finish(trial, Outcome.COMPLETED)


def test_a_hopeless_trial_is_stopped_beside_five_that_were_completed() -> None:
    master = a_master(stop_hopeless=True)
    good_trials(master, 5)
    trial = lease(master)
    assert train(master, trial, 1, 1, 1) == [False] * 3
    assert train(master, trial, 2) == [True]
    master.finish(trial, Outcome.STOPPED)
    assert closed(master, trial).reason.endswith("where half of 5 trials reached 10.00%")


def test_trials_that_end_later_change_no_decision_of_before() -> None:
    master = a_master(stop_hopeless=True)
    good_trials(master, 4)
    trial = lease(master)
    assert train(master, trial, 1, 1, 1, 2) == [False] * 4
    good_trials(master, 1)
    for life in (master, master.restart()):
        assert not life.epoch(trial, 4, validation_correct=2).stop_trial
        refused(409, life.finish, trial, Outcome.STOPPED)
        assert life.epoch(trial, 5, validation_correct=2).stop_trial


def test_longer_and_failed_trials_are_no_measure_for_a_shorter_one() -> None:
    master = FakeMaster(
        one_worker(
            epochs={"warmup": [8, 8, 8, 8, 8, 8], "full": 6}, search={"stop_hopeless": True}
        ).resolved.config
    )
    master.join()
    good_trials(master, 6)
    trial = lease(master)
    assert master.history.trials[trial].claimed.spec.epochs == 6
    assert train(master, trial, *[1] * 6) == [False] * 6
