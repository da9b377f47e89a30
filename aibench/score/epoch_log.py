"""The finished epochs of a trial in two flat arrays: a long run has millions of them."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator, Sequence
from typing import overload

import msgspec

from aibench.api.clock import RankTimes
from aibench.api.events import EpochFinished
from aibench.api.workload import EpochResult

_NUM_COUNTS = 5
_NUM_FIGURES = 4
_NUM_TIMES = 5


class TimedEpoch(msgspec.Struct, frozen=True, gc=False):
    """A finished epoch, when the master heard of it, and how many trials had been closed by then."""

    t_s: float
    finished: EpochFinished
    num_closed_trials: int


class EpochLog(Sequence[TimedEpoch]):
    """Looks like a list of epochs of one trial; each is made anew when it is asked for.

    An epoch is kept in a sixth of the memory that its objects take. Its number is its place, and all have the
    same parameters and number of ranks, as `append` asks for.
    """

    __slots__ = ("_counts", "_figures", "_num_ranks", "_parameters", "_trial")

    def __init__(self, trial: int, parameters: int) -> None:
        self._trial = trial
        self._parameters = parameters
        self._num_ranks = 0
        self._counts = array("q")
        self._figures = array("d")

    def append(self, timed: TimedEpoch) -> None:
        """Take in the trial's next epoch.

        Raises:
            ValueError: It is not the next one, or of another network or gang than those before.
        """
        finished, result = timed.finished, timed.finished.result
        if (finished.trial, result.epoch, result.parameters) != (
            self._trial,
            len(self) + 1,
            self._parameters,
        ):
            raise ValueError(f"trial {self._trial}: epoch {result.epoch} is not the next one of this network")
        if len(self) and len(result.ranks) != self._num_ranks:
            raise ValueError(
                f"trial {self._trial}: times of {len(result.ranks)} ranks, not {self._num_ranks}"
            )
        self._num_ranks = len(result.ranks)
        self._counts.extend(
            (
                timed.num_closed_trials,
                result.train_images,
                result.validation_images,
                result.validation_correct,
                result.inherited,
            )
        )
        self._figures.extend(
            (timed.t_s, finished.search_wait_s, _number(finished.predicted_error), result.train_loss)
        )
        for times in result.ranks:
            self._figures.extend(map(_number, msgspec.structs.astuple(times)))

    def errors(self) -> list[float]:
        """Top-1 validation errors, in order, without making the epochs."""
        images, correct = self._counts[2::_NUM_COUNTS], self._counts[3::_NUM_COUNTS]
        return [(of - right) / of for of, right in zip(images, correct, strict=True)]

    def __len__(self) -> int:
        return len(self._counts) // _NUM_COUNTS

    def __iter__(self) -> Iterator[TimedEpoch]:
        return map(self._made, range(len(self)))

    @overload
    def __getitem__(self, place: int) -> TimedEpoch: ...

    @overload
    def __getitem__(self, place: slice) -> list[TimedEpoch]: ...

    def __getitem__(self, place: int | slice) -> TimedEpoch | list[TimedEpoch]:
        found = range(len(self))[place]
        return self._made(found) if isinstance(found, int) else [self._made(index) for index in found]

    def _made(self, index: int) -> TimedEpoch:
        first = index * _NUM_COUNTS
        closed, train, validation, correct, inherited = self._counts[first : first + _NUM_COUNTS]
        width = _NUM_FIGURES + _NUM_TIMES * self._num_ranks
        t_s, wait_s, predicted, loss, *times = self._figures[index * width : (index + 1) * width]
        result = EpochResult(
            epoch=index + 1,
            parameters=self._parameters,
            train_images=train,
            validation_images=validation,
            validation_correct=correct,
            train_loss=loss,
            ranks=tuple([_times(times[i : i + _NUM_TIMES]) for i in range(0, len(times), _NUM_TIMES)]),
            inherited=bool(inherited),
        )
        finished = EpochFinished(
            trial=self._trial, result=result, search_wait_s=wait_s, predicted_error=_unless_nan(predicted)
        )
        return TimedEpoch(t_s, finished, closed)


def _times(values: list[float]) -> RankTimes:
    startup_s, compute_s, data_wait_s, communication_s, validation_s = values
    return RankTimes(
        startup_s=startup_s,
        compute_s=compute_s,
        data_wait_s=data_wait_s,
        communication_s=_unless_nan(communication_s),
        validation_s=validation_s,
    )


def _number(value: float | None) -> float:
    """JSON knows no nan, so that it can stand for what is absent."""
    return math.nan if value is None else value


def _unless_nan(value: float) -> float | None:
    return None if math.isnan(value) else value
