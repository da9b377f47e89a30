from typing import Any

import msgspec
import pytest
from support.runs import times

from aibench.api.events import EpochFinished
from aibench.api.workload import EpochResult
from aibench.score.epoch_log import EpochLog, TimedEpoch

RANKS = (
    times(1.5, startup_s=0.25, data_wait_s=0.1, validation_s=0.3),
    times(2.5, communication_s=None),
)


def timed(epoch: int = 1, *, num_closed: int = 0, t_s: float = 1.0, **changes: Any) -> TimedEpoch:
    values: dict[str, Any] = {
        "epoch": epoch,
        "parameters": 10,
        "train_images": 2**53 + 1,
        "validation_images": 40,
        "validation_correct": 30,
        "train_loss": 0.1,
        "ranks": RANKS,
    }
    finished = {name: changes.pop(name) for name in ("predicted_error", "trial") if name in changes}
    event = EpochFinished(
        result=EpochResult(**{**values, **changes}), search_wait_s=0.5, **{"trial": 7, **finished}
    )
    return TimedEpoch(t_s, event, num_closed)


def log_of(*epochs: TimedEpoch) -> EpochLog:
    log = EpochLog(7, 10)
    for epoch in epochs:
        log.append(epoch)
    return log


def test_what_was_put_in_comes_out_as_it_was() -> None:
    epochs = [
        timed(1, t_s=10.0),
        timed(2, t_s=20.0, num_closed=3, predicted_error=0.125, inherited=True),
        timed(3, t_s=30.0, num_closed=4, validation_correct=0),
    ]
    log = log_of(*epochs)
    assert list(log) == epochs
    assert (log[0], log[-1], log[1:], len(log)) == (epochs[0], epochs[2], epochs[1:], 3)
    assert [msgspec.json.encode(epoch) for epoch in log] == [msgspec.json.encode(epoch) for epoch in epochs]
    assert log.errors() == [0.25, 0.25, 1.0]
    with pytest.raises(IndexError):
        log[3]


def test_an_empty_log_is_like_an_empty_list() -> None:
    log = log_of()
    assert not log
    assert (list(log), log[:], log.errors()) == ([], [], [])


@pytest.mark.parametrize(
    "second",
    [timed(1), timed(3), timed(2, parameters=11), timed(2, trial=8), timed(2, ranks=RANKS[:1])],
    ids=["again", "gap", "another network", "another trial", "another gang"],
)
def test_what_does_not_follow_is_refused(second: TimedEpoch) -> None:
    with pytest.raises(ValueError, match=r"^trial 7: "):
        log_of(timed(1), second)
