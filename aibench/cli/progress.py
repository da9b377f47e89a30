"""A run as it goes, on standard error: a live panel in a terminal, plain lines elsewhere."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from aibench.score.units import duration, percent, si

if TYPE_CHECKING:
    from aibench.config import ResolvedRun
    from aibench.master.coordinator import Coordinator
    from aibench.score.score import Sample

LIVE_PERIOD_S = 1.0
LINE_PERIOD_S = 10.0
MAX_DISPLAY_SHARE = 0.05
NUM_BARS = 40
BARS = "▁▂▃▄▅▆▇█"


@contextmanager
def watch(resolved: ResolvedRun, *, quiet: bool) -> Iterator[Callable[[Coordinator], None]]:
    """What the master calls at every tick; shows the run at its own pace."""
    console = Console(stderr=True, highlight=False)
    if quiet:
        yield lambda _: None
    elif console.is_terminal:
        with Live(console=console, refresh_per_second=4) as live:
            panel = _Panel(escape(resolved.config.name))
            yield _every(LIVE_PERIOD_S, lambda coordinator: live.update(panel.show(coordinator)))
    else:
        yield _every(LINE_PERIOD_S, lambda coordinator: console.print(_line(coordinator), soft_wrap=True))


def _every(period_s: float, show: Callable[[Coordinator], None]) -> Callable[[Coordinator], None]:
    next_s = time.monotonic()

    def on_progress(coordinator: Coordinator) -> None:
        nonlocal next_s
        if next_s == math.inf or (not coordinator.is_over and time.monotonic() < next_s):
            return
        began_s = time.monotonic()
        try:
            show(coordinator)
        except (OSError, SystemExit):
            # Nobody reads any more (rich turns a broken pipe into an exit): the run goes on unseen.
            next_s = math.inf
            return
        # The master serves its workers in between: at most a small share of its time goes into the display.
        next_s = began_s + max(period_s, (time.monotonic() - began_s) / MAX_DISPLAY_SHARE)

    return on_progress


def _line(coordinator: Coordinator) -> str:
    return "  ".join(f"{label} {text}" for label, text in _facts(coordinator, coordinator.score))


class _Panel:
    """The live panel; its curve is of what it showed itself, since this master started."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._shown: list[float] = []

    def show(self, coordinator: Coordinator) -> RenderableType:
        score = coordinator.score
        table = Table.grid(padding=(0, 2))
        for label, text in _facts(coordinator, score):
            table.add_row(Text(label, style="bold"), text)
        if score is not None:
            self._shown.append(score.normalized_ops_per_s)
            table.add_row(Text("curve", style="bold"), sparkline(evenly(self._shown, NUM_BARS)))
        parts: list[RenderableType] = [table]
        left_s, limit_s = coordinator.time_left_s, coordinator.time_limit_s
        if left_s is not None and limit_s is not None:
            parts.append(ProgressBar(total=limit_s, completed=limit_s - max(0.0, left_s)))
        return Panel(Group(*parts), title=f"aibench {self._title}", expand=False)


def evenly(values: Sequence[float], number: int) -> list[float]:
    """At most so many of the values, evenly chosen; the last one is always among them."""
    if len(values) <= number:
        return list(values)
    return [values[(len(values) * (place + 1)) // number - 1] for place in range(number)]


def _facts(coordinator: Coordinator, score: Sample | None) -> Iterator[tuple[str, str]]:
    history = coordinator.history
    alive = history.num_present_workers
    yield "workers", f"{alive}" if history.barrier else f"{alive} joined, waiting for the start"
    failed = sum(not trial.scores for trial in history.closed_trials)
    failures = f" ({failed} failed)" if failed else ""
    yield "trials", f"{len(history.closed_trials)} ended{failures}, {len(history.open_trials)} running"
    if score is not None:
        yield "best error", percent(score.best_error, digits=2)
        yield "score", si(score.ops_per_s, "OPS")
        yield "normalized", si(score.normalized_ops_per_s, "OPS")
    if coordinator.time_left_s is not None:
        yield "time left", duration(max(0.0, coordinator.time_left_s))


def sparkline(values: Sequence[float]) -> str:
    """Values as bars of eight heights, from 0 to the largest."""
    top = max(values, default=0.0)
    if top <= 0:
        return BARS[0] * len(values)
    return "".join(BARS[min(len(BARS) - 1, int(max(0.0, value) / top * len(BARS)))] for value in values)
