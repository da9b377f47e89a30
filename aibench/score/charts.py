"""The charts of a report, laid out: what the template draws without computing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

from aibench.api.events import Division
from aibench.score.plot import (
    Axis,
    Point,
    area_path,
    coordinate,
    dots_path,
    line_path,
    percent_axis,
    si_axis,
    stacked,
    step_path,
    time_axis,
)
from aibench.score.report import CurvePoint, ErrorPoint, Report, SharesReport
from aibench.score.rules import MAX_CLOSED_ERROR, MAX_SMOKE_ERROR
from aibench.score.shares import Share
from aibench.score.units import duration, percent, si

ERROR_LIMITS = {Division.CLOSED.value: MAX_CLOSED_ERROR, Division.SMOKE.value: MAX_SMOKE_ERROR}


@dataclass(frozen=True, kw_only=True, slots=True)
class Box:
    """The size of every chart, the sides of its plot area, and the width of a stacked bar, in SVG units."""

    width: float = 520.0
    height: float = 280.0
    left: float = 48.0
    right: float = 508.0
    top: float = 34.0
    bottom: float = 240.0
    bar_width: float = 1000.0


BOX = Box()


@dataclass(frozen=True, slots=True)
class Mark:
    """A point with a tooltip."""

    x: str
    y: str
    text: str


@dataclass(frozen=True, slots=True)
class Dots:
    """All points of one trial as one path with a tooltip."""

    path: str
    text: str
    is_best: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Chart:
    """One chart, laid out in `BOX`.

    Attributes:
        summary: What it shows, in words.
        band_from: Where the stretch that stability looks at begins; None without a verdict on stability.
        limit: Height and label of the line that must not be exceeded.
    """

    title: str
    summary: str
    x: Axis
    y: Axis
    line: str
    area: str = ""
    marks: tuple[Mark, ...] = ()
    dots: tuple[Dots, ...] = ()
    band_from: float | None = None
    limit: tuple[float, str] | None = None


@dataclass(frozen=True, slots=True)
class Segment:
    """One share in a stacked bar."""

    share: str
    x: str
    width: str
    text: str


def curve_charts(report: Report) -> tuple[Chart, ...]:
    """The normalized score and the score over time; none before the first sample."""
    if not report.curve:
        return ()
    return (
        _curve("Normalized score", report, lambda point: point.normalized_ops_per_s),
        _curve("Score", report, lambda point: point.ops_per_s),
    )


def error_chart(report: Report) -> Chart | None:
    """The error of every finished epoch, and the best so far; None before the first."""
    errors = report.errors
    if not errors:
        return None
    limit = ERROR_LIMITS.get(report.division)
    x = time_axis(errors[-1].t_s, BOX.left, BOX.right)
    y = percent_axis(max(limit or 0.0, *(point.error for point in errors)), BOX.bottom, BOX.top)
    improvements = _improvements(errors)
    best = [(x.scale.at(point.t_s), y.scale.at(point.best_error)) for point in improvements]
    end = (x.scale.at(errors[-1].t_s), y.scale.at(errors[-1].best_error))
    return Chart(
        title="Validation error",
        summary=f"Validation error of {len(errors)} finished epochs; the best falls from "
        f"{percent(errors[0].best_error, digits=2)} to {percent(errors[-1].best_error, digits=2)} "
        f"within {duration(errors[-1].t_s)}.",
        x=x,
        y=y,
        line=step_path([*best, end]),
        marks=tuple(
            _mark(place, f"new best: {percent(point.error, digits=2)}, trial {point.trial}", point.t_s)
            for place, point in zip(best, improvements, strict=True)
        ),
        dots=_trial_dots(errors, improvements[-1].trial, lambda p: (x.scale.at(p.t_s), y.scale.at(p.error))),
        limit=(y.scale.at(limit), f"limit {percent(limit, digits=0)}") if limit else None,
    )


def bar(shares: SharesReport) -> tuple[Segment, ...]:
    """Time shares side by side, in a box ``BOX.bar_width`` wide; empty shares left out."""
    parts = [shares.fractions[share.value] for share in Share]
    return tuple(
        Segment(
            share.value, coordinate(start), coordinate(width), f"{share_label(share.value)}: {percent(part)}"
        )
        for share, part, (start, width) in zip(Share, parts, stacked(parts, BOX.bar_width), strict=True)
        if part > 0
    )


def share_label(share: str) -> str:
    """A share's name in words."""
    return share.replace("_", " ")


def _curve(title: str, report: Report, value_of: Callable[[CurvePoint], float]) -> Chart:
    curve = report.curve
    x = time_axis(curve[-1].t_s, BOX.left, BOX.right)
    y = si_axis(max(map(value_of, curve)), "OPS", BOX.bottom, BOX.top)
    points = [(x.scale.at(point.t_s), y.scale.at(value_of(point))) for point in curve]
    first, last = (si(value_of(curve[place]), "OPS") for place in (0, -1))
    return Chart(
        title=title,
        summary=f"{title} in {len(curve)} samples: {first} at {duration(curve[0].t_s)}, "
        f"{last} at {duration(curve[-1].t_s)}.",
        x=x,
        y=y,
        line=line_path(points),
        area=area_path(points, BOX.bottom),
        marks=tuple(
            _mark(place, si(value_of(point), "OPS"), point.t_s)
            for place, point in zip(points, curve, strict=True)
        ),
        band_from=x.scale.at(curve[-1].t_s * 2 / 3) if report.stability else None,
    )


def _improvements(errors: tuple[ErrorPoint, ...]) -> list[ErrorPoint]:
    before = [float("inf"), *(point.best_error for point in errors)]
    return [point for point, best in zip(errors, before, strict=False) if point.best_error < best]


def _trial_dots(
    errors: tuple[ErrorPoint, ...], best_trial: int, place: Callable[[ErrorPoint], Point]
) -> tuple[Dots, ...]:
    by_trial: dict[int, list[ErrorPoint]] = defaultdict(list)
    for point in errors:
        by_trial[point.trial].append(point)
    return tuple(
        Dots(
            dots_path(map(place, points)),
            f"trial {trial}: {len(points)} epochs, best {percent(min(p.error for p in points), digits=2)}",
            trial == best_trial,
        )
        for trial, points in by_trial.items()
    )


def _mark(place: Point, text: str, t_s: float) -> Mark:
    return Mark(coordinate(place[0]), coordinate(place[1]), f"{text} at {duration(t_s)}")
