"""comparison.html: a comparison of searches on one page that asks nothing of the network."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import yaml

from aibench.score.charts import Box
from aibench.score.convergence_chart import ConvergenceCharts, ConvergenceLine, convergence_charts
from aibench.score.page import render_page
from aibench.score.plot import Axis, between_path, line_path, log_percent_axis, si_axis
from aibench.score.units import percent, si
from aibench.search.comparison import Course
from aibench.search.comparison_summary import AlgorithmSummary, Comparison

BOX = Box(width=1000.0, height=440.0, left=48.0, right=988.0, top=34.0, bottom=396.0)
LEAST_DRAWN_ERROR = 1e-4


@dataclass(frozen=True, kw_only=True, slots=True)
class Series:
    """One algorithm: mean, band, and what a pointer on it is told."""

    algorithm: str
    line: str
    band: str
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class RaceChart:
    """Best error against operations, laid out in `BOX`; series in the order of the ranks."""

    summary: str
    x: Axis
    y: Axis
    series: tuple[Series, ...]


def render_comparison(comparison: Comparison) -> str:
    """One self-contained HTML document; every text of the comparison in it is escaped."""
    conditions = comparison.conditions
    return render_page(
        "comparison.html.j2",
        aibench_version=conditions.aibench_version,
        comparison=comparison,
        conditions=conditions,
        box=BOX,
        chart=race_chart(comparison.algorithms),
        convergence=_convergence(comparison),
        finals=_finals(comparison.courses, conditions.budget_ops),
        config_yaml=yaml.safe_dump(conditions.config, sort_keys=False, allow_unicode=True),
    )


def _convergence(comparison: Comparison) -> ConvergenceCharts:
    lines = [ConvergenceLine(name=a.algorithm, points=a.convergence) for a in comparison.algorithms]
    full_length = float(comparison.conditions.budget_ops)
    return convergence_charts(lines, full_length, length_text=lambda ops: f"{si(ops)} operations")


def race_chart(algorithms: Sequence[AlgorithmSummary]) -> RaceChart:
    """Lay the curves out: operations from 0, errors by their logarithm, on which the score depends."""
    points = [point for algorithm in algorithms for point in algorithm.curve]
    x = si_axis(max(point.ops for point in points), "", BOX.left, BOX.right)
    low = max(LEAST_DRAWN_ERROR, min(point.low for point in points))
    high = max(LEAST_DRAWN_ERROR, *(point.high for point in points))
    y = log_percent_axis(low, high, BOX.bottom, BOX.top)
    ends = ", ".join(f"{a.algorithm} {percent(a.final.mean, digits=2)}" for a in algorithms)
    return RaceChart(
        summary=f"Mean best error against operations; after {si(points[-1].ops)} operations: {ends}.",
        x=x,
        y=y,
        series=tuple(_series(algorithm, x, y) for algorithm in algorithms),
    )


def _series(algorithm: AlgorithmSummary, x: Axis, y: Axis) -> Series:
    def height(error: float) -> float:
        return y.scale.at(math.log(max(LEAST_DRAWN_ERROR, error)))

    curve = algorithm.curve
    places = [x.scale.at(point.ops) for point in curve]
    upper = [(place, height(point.high)) for place, point in zip(places, curve, strict=True)]
    lower = [(place, height(point.low)) for place, point in zip(places, curve, strict=True)]
    final = algorithm.final
    return Series(
        algorithm=algorithm.algorithm,
        line=line_path([(place, height(point.mean)) for place, point in zip(places, curve, strict=True)]),
        band=between_path(upper, lower),
        text=f"{algorithm.algorithm}: {percent(final.mean, digits=2)} at the end, 95 % band "
        f"{percent(final.low, digits=2)} to {percent(final.high, digits=2)}",
    )


def _finals(courses: Sequence[Course], budget_ops: int) -> dict[int, dict[str, float | None]]:
    """Best error at the budget's end by seed and algorithm."""
    finals: dict[int, dict[str, float | None]] = {}
    for course in courses:
        finals.setdefault(course.seed, {})[course.algorithm] = course.best_error(budget_ops)
    return finals
