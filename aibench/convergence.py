"""How a score settles as a measurement grows longer. Pure functions of scores at doubled lengths.

A long measurement contains the shorter ones, so each repetition gives a score at every length. At a length L,
over n repetitions that differ by their seed, with their mean M(L):

    spread(L) = sample standard deviation / M(L)          how far one repetition may be off
    slope(L)  = M(L) / M(L/2) - 1                         what doubling the length still changed

The slope is taken per doubling and not, as the stability of a single run, by a regression over its last
third: a step-shaped curve has few samples in the third of a short length, while both ends of a doubling are
always known, and equal distances on a logarithmic axis stay comparable.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence

import msgspec

NUM_DOUBLINGS = 4
MIN_REPETITIONS = 2


class ConvergencePoint(msgspec.Struct, frozen=True, kw_only=True):
    """The score of measurements of one length.

    Attributes:
        length: Operations or seconds.
        mean: Over the repetitions.
        spread: Coefficient of variation between them; None with one, or where the mean is 0.
        slope: Change of the mean since half the length, as a share of it; None where that is unknown or 0.
    """

    length: float
    mean: float
    spread: float | None
    slope: float | None


def lengths(full_length: float) -> tuple[float, ...]:
    """A sixteenth to the whole by doubling, and before them the half of the shortest, for its slope."""
    return tuple(full_length / 2**exponent for exponent in range(NUM_DOUBLINGS + 1, -1, -1))


def convergence_points(
    at_lengths: Sequence[float], scores: Sequence[Sequence[float | None]]
) -> tuple[ConvergencePoint, ...]:
    """Points at the lengths but the first, shortest, at which every repetition has a score.

    Args:
        at_lengths: Each twice the one before.
        scores: Shape [repetitions, lengths]; None where a repetition has no score yet.
    """
    complete = [_complete(column) for column in zip(*scores, strict=True)]
    return tuple(
        _point(length, values, before)
        for length, values, before in zip(at_lengths[1:], complete[1:], complete, strict=False)
        if values
    )


def relative_uncertainty(num_repetitions: int) -> float:
    """Standard error of a standard deviation of so many normal values, as a share of it: 1/√(2(n - 1))."""
    return 1 / math.sqrt(2 * (num_repetitions - 1))


def convergence_sentence(
    points: Sequence[ConvergencePoint], repetitions: str, length_text: Callable[[float], str]
) -> str:
    """How spread and slope changed from the shortest to the longest length.

    Args:
        repetitions: What differs between them, in the plural, such as ``seeds``.
        length_text: A length with its unit.
    """
    spreads = [(point.length, point.spread) for point in points if point.spread is not None]
    slopes = [(point.length, point.slope) for point in points if point.slope is not None]
    if len(points) < 2 or len(spreads) < 2:
        return f"Too few lengths have a score of all {repetitions} to say how it converges."
    start, end = (length_text(place[0]) for place in (spreads[0], spreads[-1]))
    spread_text = _change(spreads[0][1], spreads[-1][1], _unsigned)
    sentence = f"From {start} to {end} the spread between {repetitions} {spread_text}"
    if len(slopes) < 2:
        return f"{sentence}; the slope is known at too few lengths."
    since = "" if slopes[0][0] == spreads[0][0] else f" (known from {length_text(slopes[0][0])} on)"
    return f"{sentence}; the slope per doubling{since} {_change(slopes[0][1], slopes[-1][1], _signed)}."


def _complete(column: Sequence[float | None]) -> list[float]:
    """The scores of a length if every repetition has one, else none."""
    values = [value for value in column if value is not None]
    return values if len(values) == len(column) else []


def _point(length: float, values: Sequence[float], before: Sequence[float]) -> ConvergencePoint:
    mean = statistics.fmean(values)
    mean_before = statistics.fmean(before) if before else 0.0
    return ConvergencePoint(
        length=length,
        mean=mean,
        spread=statistics.stdev(values) / mean if len(values) >= MIN_REPETITIONS and mean else None,
        slope=mean / mean_before - 1 if mean_before else None,
    )


def _change(first: float, last: float, text_of: Callable[[float], str]) -> str:
    start, end = text_of(first), text_of(last)
    if start == end:
        return f"stayed at {end}"
    return f"{'shrank' if abs(last) < abs(first) else 'grew'} from {start} to {end}"


def _unsigned(fraction: float) -> str:
    return f"{100 * fraction:.1f} %"


def _signed(fraction: float) -> str:
    return f"{100 * fraction + 0.0:+.1f} %"
