"""Ranks of values among each other. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence


def shared_ranks(values: Sequence[float]) -> list[float]:
    """Rank of each value, 1 for the least; equal values get the mean of their ranks."""
    ordered = sorted(values)
    first = {value: rank for rank, value in reversed(list(enumerate(ordered, start=1)))}
    last = {value: rank for rank, value in enumerate(ordered, start=1)}
    return [(first[value] + last[value]) / 2 for value in values]
