"""How a normalized score converges with the length of the measurement, for a terminal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table

from aibench.score.units import duration, percent, si

if TYPE_CHECKING:
    from aibench.convergence import ConvergencePoint
    from aibench.score.convergence import RunsConvergence
    from aibench.search.comparison_summary import Comparison

TITLE = "Normalized score by length"


def print_comparison_convergence(console: Console, comparison: Comparison) -> None:
    """Every algorithm at every length, and how spread and slope changed."""
    table = Table(box=box.SIMPLE_HEAD, title=TITLE)
    table.add_column("algorithm")
    _add_columns(table, "operations", "seeds")
    unit = "OPS" if comparison.conditions.on == "workload" else ""
    for algorithm in comparison.algorithms:
        rows = _rows(algorithm.convergence, si, unit)
        for place, cells in enumerate(rows, start=1):
            name = algorithm.algorithm if place == 1 else ""
            table.add_row(name, *cells, end_section=place == len(rows))
    console.print(table)
    for algorithm in comparison.algorithms:
        console.print(f"{algorithm.algorithm}: {algorithm.convergence_sentence}")
    console.print(comparison.convergence_remark)


def print_runs_convergence(console: Console, convergence: RunsConvergence) -> None:
    """The runs' score at every length, and how spread and slope changed."""
    table = Table(box=box.SIMPLE_HEAD, title=f"{TITLE}, every run cut off there")
    _add_columns(table, "measured", "runs")
    for cells in _rows(convergence.points, duration, "OPS"):
        table.add_row(*cells)
    console.print(table)
    console.print(convergence.sentence)
    console.print(convergence.remark)


def _add_columns(table: Table, length: str, repetitions: str) -> None:
    for name in (length, "mean normalized score", f"spread between {repetitions}", "slope per doubling"):
        table.add_column(name, justify="right")


def _rows(
    points: Sequence[ConvergencePoint], length_text: Callable[[float], str], unit: str
) -> list[tuple[str, ...]]:
    return [
        (
            length_text(point.length),
            si(point.mean, unit) if unit else f"{point.mean:.3f}",
            "n/a" if point.spread is None else percent(point.spread),
            "n/a" if point.slope is None else percent(point.slope, signed=True),
        )
        for point in points
    ]
