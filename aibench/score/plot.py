"""Plot geometry: ticks, linear scales and SVG path data. Pure functions; coordinates in SVG user units."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from aibench.score.units import si_index, si_prefix

Point = tuple[float, float]

_NICE = (1, 2, 5, 10)
_LOG_NICE = (1, 1.5, 2, 3, 5, 7)
_EVEN_RATIO = 4.0
_ROUNDING = 1e-9
_TIME_UNITS = ((3 * 3600.0, 3600.0, "h"), (180.0, 60.0, "min"), (0.0, 1.0, "s"))


@dataclass(frozen=True, slots=True)
class Scale:
    """Linear map of the values ``low`` to ``high``, which differ, onto coordinates ``start`` to ``end``."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        """Coordinate of a value."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


@dataclass(frozen=True, slots=True)
class Tick:
    """One labelled place of an axis."""

    at: float
    label: str


@dataclass(frozen=True, slots=True)
class Axis:
    """A scale with its ticks, and the unit in which they are labelled."""

    scale: Scale
    ticks: tuple[Tick, ...]
    unit: str


def nice_step(extent: float, max_steps: int) -> float:
    """Least of 1, 2, 5 times a power of ten that covers a positive extent in at most ``max_steps`` steps."""
    least = extent / max_steps
    magnitude = 10.0 ** math.floor(math.log10(least))
    return next(factor * magnitude for factor in _NICE if factor * magnitude >= least * (1 - _ROUNDING))


def ticks_within(end: float, max_steps: int) -> tuple[float, ...]:
    """Round values from 0 to at most ``end``, which is above 0."""
    step = nice_step(end, max_steps)
    return tuple(i * step for i in range(math.floor(end / step + _ROUNDING) + 1))


def ticks_covering(end: float, max_steps: int) -> tuple[float, ...]:
    """Round values from 0 to at least ``end``; 0 and 1 where ``end`` is 0."""
    if end <= 0:
        return (0.0, 1.0)
    step = nice_step(end, max_steps)
    return tuple(i * step for i in range(math.ceil(end / step - _ROUNDING) + 1))


def time_axis(end_s: float, start: float, end: float) -> Axis:
    """From 0 to exactly ``end_s``, in seconds, minutes or hours by its length."""
    end_s = end_s if end_s > 0 else 1.0
    unit_s, unit = next((unit_s, unit) for from_s, unit_s, unit in _TIME_UNITS if end_s >= from_s)
    scale = Scale(0.0, end_s, start, end)
    return Axis(scale, _labelled(ticks_within(end_s / unit_s, max_steps=7), scale, unit_s), unit)


def si_axis(maximum: float, unit: str, start: float, end: float) -> Axis:
    """From 0 to a round value not below ``maximum``, with one SI prefix for all ticks."""
    ticks = ticks_covering(maximum, max_steps=5)
    index = si_index(ticks[-1])
    scale = Scale(0.0, ticks[-1], start, end)
    labelled = _labelled([tick / 1000**index for tick in ticks], scale, 1000.0**index)
    return Axis(scale, labelled, f"{si_prefix(index)}{unit}")


def percent_axis(maximum: float, start: float, end: float) -> Axis:
    """From 0 % to a round value not below ``maximum``, a fraction of 1."""
    ticks = ticks_covering(100 * maximum, max_steps=5)
    scale = Scale(0.0, ticks[-1] / 100, start, end)
    return Axis(scale, _labelled(ticks, scale, 0.01), "%")


def signed_percent_axis(low: float, high: float, start: float, end: float) -> Axis:
    """Over round values around 0 and all from ``low`` to ``high``, fractions of 1."""
    low, high = min(0.0, 100 * low), max(0.0, 100 * high)
    step = nice_step(high - low, max_steps=5) if high > low else 1.0
    first = math.floor(low / step + _ROUNDING)
    last = max(first + 1, math.ceil(high / step - _ROUNDING))
    scale = Scale(first * step / 100, last * step / 100, start, end)
    ticks = [i * step for i in range(first, last + 1)]
    return Axis(scale, _labelled(ticks, scale, 0.01), "%")


def log_percent_axis(low: float, high: float, start: float, end: float) -> Axis:
    """Natural logarithms of fractions of 1, labelled in percent, over round values around low and high.

    Both are above 0. Ticks are not evenly spaced, and there are at least two.
    """
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 2)
    rounds = [factor * 10.0**power for power in powers for factor in _LOG_NICE]
    first = max(place for place, value in enumerate(rounds) if value <= low * (1 + _ROUNDING))
    last = next(
        place for place, value in enumerate(rounds) if value >= high * (1 - _ROUNDING) and place > first
    )
    scale = Scale(math.log(rounds[first]), math.log(rounds[last]), start, end)
    ticks = tuple(Tick(scale.at(math.log(value)), f"{100 * value:g}") for value in rounds[first : last + 1])
    return Axis(scale, ticks, "%")


def error_axis(low: float, high: float, start: float, end: float) -> Axis:
    """Natural logarithms of errors, fractions of 1 above 0, labelled in percent.

    It reaches a little beyond low and high; ticks are the round values between.
    """
    scale = _padded_log_scale(low, high, start, end)
    return Axis(scale, tuple(Tick(scale.at(math.log(v)), f"{100 * v:g}") for v in _rounds(scale)), "%")


def accuracy_axis(low_error: float, high_error: float, start: float, end: float) -> Axis:
    """As `error_axis`, its values still errors, but from high to low and labelled with the accuracy."""
    scale = _padded_log_scale(low_error, high_error, end, start)
    rounds = reversed(_rounds(scale))
    return Axis(scale, tuple(Tick(scale.at(math.log(v)), f"{100 - 100 * v:g}") for v in rounds), "%")


def spaced(axis: Axis, least: float) -> Axis:
    """The axis with those of its ticks that are at least so many units from the one before."""
    kept = list(axis.ticks[:1])
    for tick in axis.ticks[1:]:
        if abs(tick.at - kept[-1].at) >= least:
            kept.append(tick)
    return Axis(axis.scale, tuple(kept), axis.unit)


def coordinate(value: float) -> str:
    """A coordinate as short as it can be said at a tenth of a unit."""
    return f"{round(value, 1) + 0.0:g}"


def line_path(points: Sequence[Point]) -> str:
    """Straight lines through the points."""
    return _joined("L", points)


def area_path(points: Sequence[Point], base: float) -> str:
    """The surface between the points and a horizontal base line; empty without points."""
    if not points:
        return ""
    ends = [(points[-1][0], base), (points[0][0], base)]
    return _joined("L", [*points, *ends]) + "Z"


def between_path(upper: Sequence[Point], lower: Sequence[Point]) -> str:
    """The surface between two lines from left to right; empty without points."""
    return _joined("L", [*upper, *reversed(lower)]) + "Z" if upper else ""


def step_path(points: Sequence[Point]) -> str:
    """Each value held until the next point."""
    if not points:
        return ""
    steps = "".join(f"H{coordinate(x)}V{coordinate(y)}" for x, y in points[1:])
    return _joined("L", points[:1]) + steps


def dots_path(points: Iterable[Point]) -> str:
    """A dot at each point, for a stroke with round caps; dots that fall on one place are drawn once."""
    places = dict.fromkeys((coordinate(x), coordinate(y)) for x, y in points)
    return "".join(f"M{x} {y}h0" for x, y in places)


def stacked(parts: Sequence[float], width: float) -> tuple[Point, ...]:
    """Start and width of each part of 1 when they lie side by side."""
    places, start = [], 0.0
    for part in parts:
        places.append((start * width, part * width))
        start += part
    return tuple(places)


def _padded_log_scale(low: float, high: float, start: float, end: float) -> Scale:
    padding = 0.05 * math.log(high / low) or 0.2
    return Scale(math.log(low) - padding, min(math.log(high) + padding, max(0.0, math.log(high))), start, end)


def _rounds(scale: Scale) -> list[float]:
    """Round values within a scale of logarithms: evenly spaced ones where it spans little."""
    low, high = math.exp(scale.low), math.exp(scale.high)
    if high / low < _EVEN_RATIO:
        step = nice_step(high - low, max_steps=8)
        return [i * step for i in range(math.ceil(low / step), math.floor(high / step + _ROUNDING) + 1)]
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    rounds = [factor * 10.0**power for power in powers for factor in _LOG_NICE]
    return [value for value in rounds if low <= value <= high * (1 + _ROUNDING)]


def _labelled(ticks: Sequence[float], scale: Scale, unit: float) -> tuple[Tick, ...]:
    """Ticks given in ``unit``, labelled with as many decimals as the one that needs most."""
    decimals = max(len(f"{tick:g}".partition(".")[2]) for tick in ticks)
    return tuple(Tick(scale.at(tick * unit), f"{tick:.{decimals}f}") for tick in ticks)


def _joined(command: str, points: Sequence[Point]) -> str:
    places = [f"{coordinate(x)} {coordinate(y)}" for x, y in points]
    return f"M{command.join(places)}" if places else ""
