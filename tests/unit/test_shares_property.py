"""Runs drawn at random whose ranks book no more than passed: every second must be found again, once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from support.runs import RunBuilder, times

from aibench.api.clock import RankTimes
from aibench.api.events import Outcome
from aibench.score.history import RunHistory
from aibench.score.shares import total_shares, worker_shares

spans = st.integers(0, 20).map(lambda quarters: quarters / 4)  # exact in binary


@dataclass(frozen=True)
class Epoch:
    train_s: float
    validation_s: float
    stall_s: float
    "Booked by rank 0 as data wait and by all others as communication."

    def times(self, rank: int, startup_s: float) -> RankTimes:
        return times(
            self.train_s,
            startup_s=startup_s,
            data_wait_s=self.stall_s if rank == 0 else 0.0,
            communication_s=None if rank == 0 else self.stall_s,
            validation_s=self.validation_s,
        )


@dataclass(frozen=True)
class Trial:
    pause_s: float
    search_wait_s: float
    startup_s: float
    epochs: list[Epoch]
    outcome: Outcome
    tail_s: float
    "From the last epoch to the end of the lease."
    away_s: float
    "How long the worker is gone if it is lost."


epochs = st.builds(Epoch, train_s=spans, validation_s=spans, stall_s=spans)
trials = st.builds(
    Trial,
    pause_s=spans,
    search_wait_s=spans,
    startup_s=spans,
    epochs=st.lists(epochs, max_size=3),
    outcome=st.sampled_from([Outcome.COMPLETED, Outcome.FAILED, Outcome.LOST]),
    tail_s=spans,
    away_s=spans,
)
Step = tuple[float, Callable[[RunBuilder, dict[object, int]], object]]


@dataclass
class Plan:
    """What one worker does, as steps in time."""

    worker: str
    num_ranks: int
    prefetches: bool
    life: int = 0
    now_s: float = 1.0
    steps: list[Step] = field(default_factory=list)

    def lay_out(self, trials: list[Trial]) -> None:
        self.now_s += trials[0].pause_s
        self._claim(trials[0], 0)
        for number, trial in enumerate(trials):
            following = trials[number + 1] if number + 1 < len(trials) else None
            prefetched = self.prefetches and following is not None and trial.outcome is Outcome.COMPLETED
            self._train(trial, number, prefetch=following if prefetched else None)
            if following is not None and not prefetched:
                self.now_s += following.pause_s
                self._claim(following, number + 1)

    def _at(self, do: Callable[[RunBuilder, dict[object, int]], object]) -> None:
        self.steps.append((self.now_s, do))

    def _claim(self, trial: Trial, number: int) -> None:
        def do(builder: RunBuilder, numbers: dict[object, int]) -> None:
            numbers[self.worker, number] = len(numbers) + 1
            builder.claim(self.worker, epochs=max(1, len(trial.epochs)))

        self._at(do)

    def _train(self, trial: Trial, number: int, *, prefetch: Trial | None) -> None:
        search_wait_s, startup_s = trial.search_wait_s, trial.startup_s
        self.now_s += search_wait_s + startup_s
        if prefetch is not None:
            self._claim(prefetch, number + 1)
        for epoch in trial.epochs:
            self.now_s += epoch.train_s + epoch.validation_s + epoch.stall_s
            ranks = [epoch.times(rank, startup_s) for rank in range(self.num_ranks)]
            self._epoch(number, ranks, search_wait_s)
            search_wait_s = startup_s = 0.0
        self.now_s += trial.tail_s
        outcome = trial.outcome if trial.epochs or trial.outcome is Outcome.LOST else Outcome.FAILED
        self._at(lambda builder, numbers: builder.close(numbers[self.worker, number], outcome))
        if outcome is Outcome.LOST:
            self._at(lambda builder, _: builder.lose(self.worker))
            self.now_s += trial.away_s
            self.life += 1
            life = str(self.life)
            self._at(lambda builder, _: builder.join(self.worker, ranks=self.num_ranks, incarnation=life))

    def _epoch(self, number: int, ranks: list[RankTimes], search_wait_s: float) -> None:
        self._at(
            lambda builder, numbers: builder.epoch(
                numbers[self.worker, number], ranks=ranks, search_wait_s=search_wait_s
            )
        )


@st.composite
def plans(draw: st.DrawFn) -> list[Plan]:
    found = []
    for number in range(draw(st.integers(1, 3))):
        plan = Plan(f"w{number}", num_ranks=draw(st.integers(1, 3)), prefetches=draw(st.booleans()))
        plan.lay_out(draw(st.lists(trials, min_size=1, max_size=4)))
        found.append(plan)
    return found


def build(found: list[Plan], end_s: float | None) -> RunBuilder:
    """The run of all plans; with ``end_s``, what is open then is interrupted."""
    builder = RunBuilder().start()
    for plan in found:
        builder.join(plan.worker, ranks=plan.num_ranks)
    builder.barrier()
    numbers: dict[object, int] = {}
    steps = sorted((step for plan in found for step in plan.steps), key=lambda step: step[0])
    for t_s, do in steps:
        if end_s is not None and t_s > end_s:
            break
        do(builder.at(t_s), numbers)
    for number in list(RunHistory.of(builder.records).open_trials):
        builder.close(number, Outcome.INTERRUPTED)
    return builder


@settings(max_examples=150, deadline=None)
@given(plans(), st.none() | st.integers(1, 60).map(float))
def test_every_second_is_booked_once(found: list[Plan], end_s: float | None) -> None:
    history = RunHistory.of(build(found, end_s).records)
    ends_s = [trial.epochs[-1].t_s for trial in history.trials.values() if trial.epochs]
    assume(ends_s)
    window_s = max(ends_s) - (history.start_s or 0.0)
    parts = worker_shares(history)
    for plan in found:
        shares = parts[plan.worker]
        assert sum(shares.seconds.values()) == window_s * plan.num_ranks
        assert shares.overbooked_s == 0.0
        assert min(shares.seconds.values()) >= 0.0
        assert sum(shares.fractions.values()) == pytest.approx(1.0 if window_s else 0.0)
        assert 0.0 <= shares.overhead <= 1.0
    total = total_shares(parts)
    assert sum(total.seconds.values()) == window_s * sum(plan.num_ranks for plan in found)
