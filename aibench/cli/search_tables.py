"""What the search found, for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

from rich import box
from rich.table import Table

from aibench.cli.text import cell_text
from aibench.score.pedigree import Step, pedigree
from aibench.score.predictions import figures_text
from aibench.score.report import Report
from aibench.score.units import percent

MAX_PEDIGREE_ROWS = 8

_T = TypeVar("_T")


def search_rows(report: Report) -> Iterator[tuple[str, str]]:
    """Rows of the summary: the line of the best and the figures of predictions, where there are any."""
    tree, predictions = report.tree, report.predictions
    if tree.num_networks > 1:
        generations = f"{tree.max_generation + 1} generation{'s' if tree.max_generation else ''}"
        line = " → ".join(_elided([str(network.first_trial) for network in tree.best_line], "…"))
        best = f", line of the best: trial {line}" if line else ""
        yield "search", f"{tree.num_networks} networks in {generations}{best}"
    if predictions.search.num_pairs:
        yield "search predicted", figures_text(predictions.search)
    if predictions.curve.num_pairs:
        yield "curves predicted", figures_text(predictions.curve)


def pedigree_table(report: Report) -> Table | None:
    """The line of the best, its middle left out where it is long; None where the best is a root."""
    steps = pedigree(report.tree)
    if len(steps) < 2:
        return None
    table = Table(box=box.SIMPLE_HEAD, title="Where the best network comes from")
    for column in ("trial", "change", "origin", "best error", "ops × trial 1"):
        table.add_column(column, justify="left" if column in ("change", "origin") else "right")
    for step in _elided(steps, None):
        table.add_row(*(_cells(step) if step else (f"{len(steps) - MAX_PEDIGREE_ROWS + 1} more", "…")))
    return table


def _cells(step: Step) -> tuple[str, ...]:
    network = step.network
    return (
        str(network.first_trial),
        cell_text(step.change),
        cell_text(network.origin.replace("_", " ")),
        "" if network.error is None else percent(network.error, digits=2),
        f"{network.ops_ratio:.2f}",
    )


def _elided(items: Sequence[_T], mark: _T) -> list[_T]:
    """At most ``MAX_PEDIGREE_ROWS`` items: the first and the last ones with the mark between."""
    if len(items) <= MAX_PEDIGREE_ROWS:
        return list(items)
    num_first = (MAX_PEDIGREE_ROWS - 1) // 2
    return [*items[:num_first], mark, *items[num_first + 1 - MAX_PEDIGREE_ROWS :]]
