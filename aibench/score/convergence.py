"""How the normalized score of several runs of one configuration converges with their length."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from aibench.convergence import (
    ConvergencePoint,
    convergence_points,
    convergence_sentence,
    lengths,
    relative_uncertainty,
)
from aibench.journal import Record
from aibench.score.convergence_chart import ConvergenceLine, convergence_charts
from aibench.score.history import RunHistory
from aibench.score.page import render_page
from aibench.score.score import compute_score
from aibench.score.units import duration

FORMAT = "aibench-convergence/1"


class RunsConvergence(msgspec.Struct, frozen=True, kw_only=True):
    """Runs of one configuration, as they stood when they were a sixteenth as long, and so on.

    Attributes:
        measured_time_s: Of the shortest run: the whole length.
        points: By seconds since each run's first trial started.
        remark: How uncertain the spreads are.
    """

    format: str
    runs: tuple[str, ...]
    measured_time_s: float
    points: tuple[ConvergencePoint, ...]
    sentence: str
    remark: str


def runs_convergence(
    runs: Sequence[str], scores: Sequence[Sequence[float | None]], measured_time_s: float
) -> RunsConvergence:
    """Combine at least two runs.

    Args:
        scores: Of each run, from `scores_at` the ``lengths`` of the measured time.
        measured_time_s: Of the shortest run.
    """
    points = convergence_points(lengths(measured_time_s), scores)
    return RunsConvergence(
        format=FORMAT,
        runs=tuple(runs),
        measured_time_s=measured_time_s,
        points=points,
        sentence=convergence_sentence(points, "runs", duration),
        remark=(
            f"Estimated from {len(runs)} runs, a spread is itself uncertain by about "
            f"{100 * relative_uncertainty(len(runs)):.0f} % of its value."
        ),
    )


def scores_at(records: Iterable[Record], times_s: Sequence[float]) -> tuple[float | None, ...]:
    """The normalized score that the run would have had, had it been cut off at each of the times.

    A trial that failed later still counts before. None before the first finished epoch.

    Args:
        times_s: Rising, in seconds since the first trial's start.

    Raises:
        JournalError: A record contradicts the ones before it.
    """
    history = RunHistory()
    scores: list[float | None] = []
    for record in records:
        start_s = history.start_s
        while start_s is not None and len(scores) < len(times_s):
            if record.t_s - start_s <= times_s[len(scores)]:
                break
            scores.append(_score(history))
        history.apply(record)
    scores.extend([_score(history)] * (len(times_s) - len(scores)))
    return tuple(scores)


def render_convergence(convergence: RunsConvergence, *, aibench_version: str) -> str:
    """One self-contained HTML document; every text of the runs in it is escaped."""
    lines = [ConvergenceLine(name="runs", points=convergence.points)]
    return render_page(
        "convergence.html.j2",
        aibench_version=aibench_version,
        convergence=convergence,
        charts=convergence_charts(lines, convergence.measured_time_s, length_text=duration),
    )


def _score(history: RunHistory) -> float | None:
    score = compute_score(history)
    return None if score is None else score.final.normalized_ops_per_s
