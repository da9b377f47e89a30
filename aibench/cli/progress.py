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

from aibench.score.score import Score, compute_score
from aibench.score.units import duration, percent, si

if TYPE_CHECKING:
    from aibench.config import ResolvedRun
    from aibench.master.coordinator import Coordinator

LIVE_PERIOD_S = 1.0
LINE_PERIOD_S = 10.0
MAX_DISPLAY_SHARE = 0.05
BARS = "▁▂▃▄▅▆▇█"


@contextmanager
def watch(resolved: ResolvedRun, *, quiet: bool) -> Iterator[Callable[[Coordinator], None]]:
    """What the master calls at every tick; shows the run at its own pace."""
    console = Console(stderr=True, highlight=False)
    if quiet:
        yield lambda _: None
    elif console.is_terminal:
        with Live(console=console, refresh_per_second=4) as live:
            title = escape(resolved.config.name)
            yield _every(LIVE_PERIOD_S, lambda coordinator: live.update(_panel(title, coordinator)))
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
    return "  ".join(f"{label} {text}" for label, text in _facts(coordinator, _score(coordinator)))


def _panel(title: str, coordinator: Coordinator) -> RenderableType:
    score = _score(coordinator)
    table = Table.grid(padding=(0, 2))
    for label, text in _facts(coordinator, score):
        table.add_row(Text(label, style="bold"), text)
    if score is not None:
        table.add_row(Text("curve", style="bold"), sparkline([s.normalized_ops_per_s for s in score.curve]))
    parts: list[RenderableType] = [table]
    left_s, limit_s = coordinator.time_left_s, coordinator.time_limit_s
    if left_s is not None and limit_s is not None:
        parts.append(ProgressBar(total=limit_s, completed=limit_s - max(0.0, left_s)))
    return Panel(Group(*parts), title=f"aibench {title}", expand=False)


def _facts(coordinator: Coordinator, score: Score | None) -> Iterator[tuple[str, str]]:
    history = coordinator.history
    alive = history.num_present_workers
    yield "workers", f"{alive}" if history.barrier else f"{alive} joined, waiting for the start"
    failed = sum(not trial.scores for trial in history.closed_trials)
    failures = f" ({failed} failed)" if failed else ""
    yield "trials", f"{len(history.closed_trials)} ended{failures}, {len(history.open_trials)} running"
    if score is not None:
        yield "best error", percent(score.final.best_error, digits=2)
        yield "score", si(score.final.ops_per_s, "OPS")
        yield "normalized", si(score.final.normalized_ops_per_s, "OPS")
    if coordinator.time_left_s is not None:
        yield "time left", duration(max(0.0, coordinator.time_left_s))


def _score(coordinator: Coordinator) -> Score | None:
    return compute_score(coordinator.history)


def sparkline(values: Sequence[float]) -> str:
    """Values as bars of eight heights, from 0 to the largest."""
    top = max(values, default=0.0)
    if top <= 0:
        return BARS[0] * len(values)
    return "".join(BARS[min(len(BARS) - 1, int(max(0.0, value) / top * len(BARS)))] for value in values)
