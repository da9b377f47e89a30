import pytest

from aibench.search.config import SearchConfig
from aibench.search.stopping import reason_to_stop

PATIENT = SearchConfig(patience_epochs=2)
HOPELESS = SearchConfig(stop_hopeless=True)
POOR = [0.9, 0.8, 0.7, 0.69, 0.68, 0.68]
GOOD_PEERS = [0.08, 0.1, 0.1, 0.12, 0.9]


def test_nothing_is_stopped_unless_the_configuration_says_so() -> None:
    assert reason_to_stop(SearchConfig(), [0.5] * 9, 12, peers=[0.01] * 100) is None


@pytest.mark.parametrize(
    ("errors", "is_stopped"),
    [
        ([0.5], False),
        ([0.5, 0.5], False),
        ([0.5, 0.5, 0.6], True),
        ([0.5, 0.4, 0.45], False),
        ([0.5, 0.4, 0.45, 0.4], True),
        ([0.5, 0.4, 0.45, 0.39], False),
        ([0.0, 0.0, 0.0], True),
    ],
)
def test_a_trial_is_stalled_when_no_epoch_of_its_patience_brought_a_better_error(
    errors: list[float], is_stopped: bool
) -> None:
    reason = reason_to_stop(PATIENT, errors, 12, peers=[])
    assert reason == ("stalled: no better error in 2 epochs" if is_stopped else None)


@pytest.mark.parametrize(("epochs", "is_stopped"), [(3, False), (4, False), (5, True)])
def test_a_trial_that_trains_its_last_epoch_by_now_is_not_stopped(epochs: int, is_stopped: bool) -> None:
    assert (reason_to_stop(PATIENT, [0.5, 0.5, 0.5], epochs, peers=[]) is not None) is is_stopped


def test_a_trial_is_hopeless_when_even_an_optimist_sees_it_above_the_median_of_its_peers() -> None:
    reason = reason_to_stop(HOPELESS, POOR, 12, peers=GOOD_PEERS)
    assert reason is not None
    assert reason.startswith("hopeless: ")
    assert reason.endswith(" error at best, where half of 5 trials reached 10.00%")
    assert reason_to_stop(HOPELESS, POOR, 12, peers=[0.08, 0.1, 0.69, 0.8, 0.9]) is None


def test_without_enough_peers_no_trial_is_hopeless() -> None:
    assert reason_to_stop(HOPELESS, POOR, 12, peers=GOOD_PEERS[:4]) is None


def test_no_trial_is_hopeless_before_half_of_its_epochs() -> None:
    assert reason_to_stop(HOPELESS, POOR[:5], 12, peers=GOOD_PEERS) is None
    assert reason_to_stop(HOPELESS, POOR[:5], 10, peers=GOOD_PEERS) is not None


def test_no_trial_is_hopeless_before_its_third_epoch() -> None:
    assert reason_to_stop(HOPELESS, [0.9, 0.9], 4, peers=GOOD_PEERS) is None


def test_a_trial_as_good_as_the_median_goes_on() -> None:
    assert reason_to_stop(HOPELESS, [0.1] * 6, 12, peers=[0.1] * 5) is None
