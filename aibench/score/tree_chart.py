"""The tree of networks as a picture: time to the right, error downwards on its logarithm."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from aibench.score.charts import Box
from aibench.score.lineage import Network
from aibench.score.pedigree import change_words
from aibench.score.plot import Axis, Point, coordinate, error_axis, spaced, time_axis
from aibench.score.report import Report
from aibench.score.units import duration, percent

BOX = Box(width=1000.0, height=480.0, left=48.0, right=988.0, top=34.0, bottom=436.0)
Cell = tuple[int, int]

ORIGINS = ("initial", "random", "evolution", "network_morphism", "worker")
OTHER_ORIGIN = "other"

_MIN_DOT, _MAX_DOT = 2.5, 10.0
_COVERED = 0.05
_ROW_COST = 4
_LETTER_WIDTH = 10.0
_LINE_HEIGHT = 14.0
_LABEL_ROOM = 16.0
_MIN_TICK_SPACE = 24.0
_MAX_TOOLTIP = 160


@dataclass(frozen=True, kw_only=True, slots=True)
class Dot:
    """One network: a dot with a tooltip. ``origin`` is one of ``ORIGINS`` or ``OTHER_ORIGIN``."""

    x: float
    y: float
    text: str
    origin: str
    is_completed: bool
    is_on_best_line: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Label:
    """A trial's number beside its dot on the line of the best."""

    x: float
    y: float
    text: str
    anchor: str


@dataclass(frozen=True, kw_only=True, slots=True)
class TreeChart:
    """The picture, laid out in `BOX`.

    Attributes:
        summary: What it shows, in words.
        radius: Of every dot; no two dots overlap.
        edges: From parents to children off the line of the best, as one path.
        best_edges: Those along the line of the best.
        dots: Parents before their children, both in the list and from left to right.
        origins: Networks drawn by origin.
        num_cut: Networks drawn of which no trial trained all its epochs.
        num_hidden: Networks that are not drawn: without an error, or beyond the report's limit.
    """

    summary: str
    x: Axis
    y: Axis
    radius: float
    edges: str
    best_edges: str
    dots: tuple[Dot, ...]
    labels: tuple[Label, ...]
    origins: dict[str, int]
    num_cut: int
    num_hidden: int


def tree_chart(report: Report) -> TreeChart | None:
    """Lay the tree out; None before the first finished epoch."""
    drawn = [network for network in report.tree.networks if network.error is not None]
    if not drawn or not report.errors:
        return None
    floor = 1 / report.workload.dataset.validation_images
    errors = [max(floor, network.error or 0.0) for network in drawn]
    x = time_axis(report.errors[-1].t_s, BOX.left, BOX.right)
    y = spaced(error_axis(min(errors), max(errors), BOX.bottom - _LABEL_ROOM, BOX.top), _MIN_TICK_SPACE)
    wanted = {
        network.architecture_hash: (x.scale.at(network.claimed_s), y.scale.at(math.log(error)))
        for network, error in zip(drawn, errors, strict=True)
    }
    size = dot_size(len(drawn))
    places = place_dots(drawn, wanted, size)
    return TreeChart(
        summary=_summary(report, drawn),
        x=x,
        y=y,
        radius=0.46 * size,
        edges=_edges(drawn, places, best=False),
        best_edges=_edges(drawn, places, best=True),
        dots=tuple(_dots(drawn, places)),
        labels=tuple(_labels(drawn, places, 0.46 * size)),
        origins=_origins(drawn),
        num_cut=sum(not network.is_completed for network in drawn),
        num_hidden=report.tree.num_networks - len(drawn),
    )


def dot_size(num_dots: int) -> float:
    """Diameter in SVG units at which the cells of the dots cover a twentieth of the plot, within bounds."""
    area = (BOX.right - BOX.left) * (BOX.bottom - BOX.top)
    return min(_MAX_DOT, max(_MIN_DOT, math.sqrt(_COVERED * area / num_dots)))


def place_dots(networks: Sequence[Network], wanted: dict[str, Point], size: float) -> dict[str, Point]:
    """A cell of a grid for each network: its own, or the nearest free one that is not left of its parent's.

    Moving a row counts as much as moving four columns, because heights are read more closely than times.
    Networks on the best line are placed first, and so stand where they belong.

    Args:
        networks: Parents before their children.
        wanted: Where each would stand if it were alone, by hash.
        size: Side of a cell.
    """
    num_columns, num_rows = int((BOX.right - BOX.left) / size), int((BOX.bottom - BOX.top) / size)
    taken: dict[str, Cell] = {}
    free = set(itertools.product(range(num_columns), range(num_rows)))
    for network in sorted(networks, key=lambda network: not network.is_on_best_line):
        x, y = wanted[network.architecture_hash]
        column = min(num_columns - 1, int((x - BOX.left) / size))
        row = min(num_rows - 1, int((y - BOX.top) / size))
        first, _ = taken.get(network.parent or "", (0, 0))
        cells = _around(max(first, column), row, num_columns + _ROW_COST * num_rows)
        cell = next((cell for cell in cells if cell in free and cell[0] >= first), (column, row))
        free.discard(cell)
        taken[network.architecture_hash] = cell
    return {digest: _place(cell, size) for digest, cell in taken.items()}


def _place(cell: Cell, size: float) -> Point:
    return BOX.left + (cell[0] + 0.5) * size, BOX.top + (cell[1] + 0.5) * size


def _around(column: int, row: int, most: int) -> Iterator[Cell]:
    """Cells by growing distance, up to ``most`` columns or a quarter as many rows."""
    yield column, row
    for distance in range(1, most):
        for rows in range(distance // _ROW_COST + 1):
            columns = distance - _ROW_COST * rows
            for across in {columns, -columns}:
                for up in {-rows, rows}:
                    yield column + across, row + up


def _edges(networks: Sequence[Network], places: dict[str, Point], *, best: bool) -> str:
    lines = (
        (places[network.parent], places[network.architecture_hash])
        for network in networks
        if network.parent in places and network.is_on_best_line is best
    )
    return "".join(_edge(start, end) for start, end in lines)


def _edge(start: Point, end: Point) -> str:
    """A line that leaves and arrives level."""
    x, y, to_x, to_y = (coordinate(value) for value in (*start, *end))
    middle = coordinate((start[0] + end[0]) / 2)
    return f"M{x} {y}C{middle} {y} {middle} {to_y} {to_x} {to_y}"


def _dots(networks: Sequence[Network], places: dict[str, Point]) -> Iterator[Dot]:
    first_trials = {network.architecture_hash: network.first_trial for network in networks}
    for network in networks:
        x, y = places[network.architecture_hash]
        yield Dot(
            x=x,
            y=y,
            text=_tooltip(network, first_trials.get(network.parent or "")),
            origin=_origin(network),
            is_completed=network.is_completed,
            is_on_best_line=network.is_on_best_line,
        )


def _tooltip(network: Network, parent_trial: int | None) -> str:
    others = f" and {len(network.trials) - 1} more" if len(network.trials) > 1 else ""
    cut = "" if network.is_completed else ", cut short"
    change = change_words(network)
    change = change if len(change) <= _MAX_TOOLTIP else f"{change[:_MAX_TOOLTIP]}…"
    parent = f" from trial {parent_trial}" if parent_trial is not None else ""
    return (
        f"trial {network.first_trial}{others}{cut}: error {percent(network.error or 0.0, digits=2)}, "
        f"{network.ops_ratio:.2f} × the operations of trial 1; {network.origin}{parent}: {change}"
    )


def _labels(networks: Sequence[Network], places: dict[str, Point], radius: float) -> Iterator[Label]:
    """Trial numbers from the best backwards, as far as they keep clear of each other.

    They stand below and to the left, where a line that falls to the right leaves room.
    """
    clear = math.inf
    line = [network for network in networks if network.is_on_best_line]
    for network in reversed(line):
        x, y = places[network.architecture_hash]
        error = f", {percent(network.error or 0.0, digits=2)}" if network is line[-1] else ""
        text = f"trial {network.first_trial}{error}"
        width = _LETTER_WIDTH * len(text)
        is_left = x - width < BOX.left
        start, end = (x, x + width) if is_left else (x - width, x)
        if end > clear:
            continue
        clear = start
        yield Label(
            x=x + radius + 3 if is_left else x - radius - 3,
            y=y + radius + _LINE_HEIGHT,
            text=text,
            anchor="start" if is_left else "end",
        )


def _origins(networks: Sequence[Network]) -> dict[str, int]:
    counts = Counter(map(_origin, networks))
    return {origin: counts[origin] for origin in (*ORIGINS, OTHER_ORIGIN) if origin in counts}


def _origin(network: Network) -> str:
    return network.origin if network.origin in ORIGINS else OTHER_ORIGIN


def _summary(report: Report, drawn: Sequence[Network]) -> str:
    line = report.tree.best_line
    errors = [network.error for network in drawn if network.error is not None]
    return (
        f"Tree of {len(drawn)} networks over {duration(report.errors[-1].t_s)}, errors from "
        f"{percent(max(errors), digits=2)} to {percent(min(errors), digits=2)}. The line of the best has "
        f"{len(line)} networks: trials {', '.join(str(network.first_trial) for network in line)}."
    )
