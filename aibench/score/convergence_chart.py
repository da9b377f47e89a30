"""Spread and slope of a normalized score against the length of the measurement, laid out for a template."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from aibench.convergence import NUM_DOUBLINGS, ConvergencePoint
from aibench.score.charts import BOX, Box, Mark
from aibench.score.plot import (
    Axis,
    Point,
    Scale,
    Tick,
    coordinate,
    line_path,
    percent_axis,
    signed_percent_axis,
)
from aibench.score.units import percent


@dataclass(frozen=True, kw_only=True, slots=True)
class ConvergenceLine:
    """What converges, such as an algorithm, and its points."""

    name: str
    points: tuple[ConvergencePoint, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class LineSeries:
    """One line with its marks; without any points both are empty."""

    name: str
    path: str
    marks: tuple[Mark, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class LineChart:
    """Lines against the logarithm of the length, laid out in `BOX`; series in the given order.

    Attributes:
        summary: What it shows, in words.
        zero: Height of 0.
    """

    title: str
    summary: str
    x: Axis
    y: Axis
    zero: float
    series: tuple[LineSeries, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class ConvergenceCharts:
    """Spread and slope side by side, in one box, with the names of their lines."""

    charts: tuple[LineChart, LineChart]
    names: tuple[str, ...]
    box: Box = BOX


def convergence_charts(
    lines: Sequence[ConvergenceLine], full_length: float, *, length_text: Callable[[float], str]
) -> ConvergenceCharts:
    """Spread, and slope per doubling.

    Args:
        full_length: Of which the lengths are a sixteenth to the whole.
        length_text: A length with its unit.
    """
    spreads = [value for line in lines for point in line.points if (value := point.spread) is not None]
    slopes = [value for line in lines for point in line.points if (value := point.slope) is not None]
    spread_axis = percent_axis(max(spreads, default=0.0), BOX.bottom, BOX.top)
    slope_axis = signed_percent_axis(min(slopes, default=0.0), max(slopes, default=0.0), BOX.bottom, BOX.top)
    x = length_axis(full_length)
    spread_of = partial(
        _series, value_of=lambda point: point.spread, x=x, y=spread_axis, length_text=length_text
    )
    slope_of = partial(
        _series, value_of=lambda point: point.slope, x=x, y=slope_axis, length_text=length_text
    )
    return ConvergenceCharts(
        charts=(
            _chart("Spread", x, spread_axis, tuple(map(spread_of, lines))),
            _chart("Slope per doubling of the length", x, slope_axis, tuple(map(slope_of, lines))),
        ),
        names=tuple(line.name for line in lines),
    )


def length_axis(full_length: float) -> Axis:
    """Binary logarithms of lengths from a sixteenth to the whole, labelled as shares of it."""
    end = math.log2(full_length)
    scale = Scale(end - NUM_DOUBLINGS, end, BOX.left, BOX.right)
    ticks = tuple(
        Tick(scale.at(end - doublings), f"1/{2**doublings}" if doublings else "1")
        for doublings in range(NUM_DOUBLINGS, -1, -1)
    )
    return Axis(scale, ticks, "")


def _chart(title: str, x: Axis, y: Axis, series: tuple[LineSeries, ...]) -> LineChart:
    ends = "; ".join(one.marks[-1].text for one in series if one.marks)
    return LineChart(
        title=title,
        summary=f"{title} against length; at the end {ends}." if ends else f"{title}: not known.",
        x=x,
        y=y,
        zero=y.scale.at(0.0),
        series=series,
    )


def _series(
    line: ConvergenceLine,
    *,
    value_of: Callable[[ConvergencePoint], float | None],
    x: Axis,
    y: Axis,
    length_text: Callable[[float], str],
) -> LineSeries:
    known = [(point.length, value) for point in line.points if (value := value_of(point)) is not None]
    places = [(x.scale.at(math.log2(length)), y.scale.at(value)) for length, value in known]
    texts = [f"{line.name}: {percent(value)} at {length_text(length)}" for length, value in known]
    return LineSeries(name=line.name, path=line_path(places), marks=_marks(places, texts))


def _marks(places: Sequence[Point], texts: Sequence[str]) -> tuple[Mark, ...]:
    return tuple(Mark(coordinate(x), coordinate(y), text) for (x, y), text in zip(places, texts, strict=True))
