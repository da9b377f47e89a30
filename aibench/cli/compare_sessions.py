"""What the courses of a comparison run in: on a landscape, or with processes that really train."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.progress import Progress, TaskID

from aibench.cli.run import configure_logging
from aibench.score.page import counted
from aibench.score.units import duration, percent

if TYPE_CHECKING:
    from aibench.config import ResolvedRun
    from aibench.search.comparison import Contest
    from aibench.search.evaluator import Evaluator
    from aibench.trainer_pool import PoolSettings, TrainerPool, TrialRecord

LINE_PERIOD_S = 10.0
TRIALS_NAME = "trials.jsonl"
LANDSCAPE_SENTENCE = (
    "Errors come from a test landscape, a formula without any training: this compares how the algorithms "
    "search, and says nothing about real networks."
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Session:
    """What courses need, and what the errors are, in a sentence."""

    evaluator: Evaluator
    on_course: Callable[[], None]
    sentence: str


@contextmanager
def landscape_session(contest: Contest, root: Path, *, num_courses: int) -> Iterator[Session]:
    """The contest's own evaluator; a bar on standard error, in a terminal only."""
    console = Console(stderr=True)
    bars = Progress(console=console, transient=True, disable=not console.is_terminal)
    with _interruptible(root), bars as progress:
        bar = progress.add_task("Courses", total=num_courses)
        yield Session(
            evaluator=contest.evaluator,
            on_course=lambda: progress.advance(bar),
            sentence=LANDSCAPE_SENTENCE,
        )


@contextmanager
def workload_session(
    resolved: ResolvedRun, contest: Contest, root: Path, *, num_courses: int, num_jobs: int
) -> Iterator[Session]:
    """Processes that train on the device of the first group of workers; every trial goes to trials.jsonl.

    Raises:
        TrainerError: The processes cannot be started or cannot open the workload.
        RunFolderError: The trials cannot be written.
    """
    from aibench.trainer_pool import PoolSettings, TrainerPool

    configure_logging()
    settings = PoolSettings(
        workload=resolved.workload_name,
        workload_options=resolved.workload_options,
        device=resolved.config.workers[0].device,
        num_jobs=num_jobs,
        work=contest.work,
        warm_up=contest.first_candidate(resolved.config.seed),
        log_dir=root,
    )
    trials = root / TRIALS_NAME
    with _interruptible(root), _progress(num_courses * contest.budget_ops) as show:

        def on_trained(record: TrialRecord) -> None:
            _append(record, trials)
            show(record)

        with TrainerPool(settings, on_trained) as pool:
            sentence = _workload_sentence(resolved, pool, settings)
            yield Session(evaluator=pool, on_course=lambda: None, sentence=sentence)


def _workload_sentence(resolved: ResolvedRun, pool: TrainerPool, settings: PoolSettings) -> str:
    dataset = resolved.description.dataset
    devices = sorted({f"{device.name} ({device.kind})" for device in pool.devices})
    return (
        f"Errors come from training: {resolved.workload_name} on {dataset.name} "
        f"({dataset.train_images:,} training and {dataset.validation_images:,} validation images), "
        f"{counted(settings.work.epochs, 'epoch')} per trial from scratch, {resolved.description.precision}, "
        f"on {', '.join(devices)}, {counted(settings.num_jobs, 'trial')} at a time with "
        f"{counted(settings.num_threads, 'processor thread')} each. "
        "This compares the algorithms on such short trainings of this data, and says nothing about larger "
        "data or longer trainings."
    )


@contextmanager
def _interruptible(root: Path) -> Iterator[None]:
    """A Ctrl-C ends the command in one line, with what was trained on disk, or no folder if nothing was."""
    try:
        yield
    except KeyboardInterrupt:
        trials = root / TRIALS_NAME
        num_trials = len(trials.read_bytes().splitlines()) if trials.exists() else 0
        after = f" after {counted(num_trials, 'trained trial')}, in {trials}" if num_trials else ""
        click.echo(f"aibench: interrupted{after}", err=True)
        with contextlib.suppress(OSError):
            root.rmdir()
        raise click.exceptions.Exit(130) from None


def _append(record: TrialRecord, path: Path) -> None:
    import msgspec

    from aibench.errors import RunFolderError

    try:
        with path.open("ab") as file:
            file.write(msgspec.json.encode(record) + b"\n")
    except OSError as error:
        raise RunFolderError(f"{path}: cannot be written ({error.strerror})") from error


@contextmanager
def _progress(total_ops: int) -> Iterator[Callable[[TrialRecord], None]]:
    """What is told of every trained trial; shows it on standard error, with an estimate of the time left."""
    console = Console(stderr=True, highlight=False)
    state = _TrainingProgress(total_ops)
    if console.is_terminal:
        with Progress(console=console, transient=True) as progress:
            bar = progress.add_task("Starting", total=1.0)
            yield lambda record: _advance(progress, bar, state, record)
    else:
        yield lambda record: _print_line(console, state, record)


class _TrainingProgress:
    def __init__(self, total_ops: int) -> None:
        self._total_ops = total_ops
        self._began_s: float | None = None
        self._done_ops = self._num_trials = self._num_failed = 0
        self.next_line_s = 0.0

    @property
    def share(self) -> float:
        return min(1.0, self._done_ops / self._total_ops)

    def add(self, record: TrialRecord) -> str:
        """Take a trial in; the state of things in a line."""
        now_s = time.monotonic()
        if self._began_s is None:
            self._began_s = now_s - record.train_s
        self._done_ops += record.ops
        self._num_trials += 1
        self._num_failed += record.error is None
        left_s = (now_s - self._began_s) * (1 - self.share) / self.share
        failed = f" ({self._num_failed} failed)" if self._num_failed else ""
        return (
            f"{record.algorithm}, seed {record.seed}  {counted(self._num_trials, 'trial')} trained{failed}  "
            f"{percent(self.share, digits=0)} done  about {duration(left_s)} left"
        )


def _advance(progress: Progress, bar: TaskID, state: _TrainingProgress, record: TrialRecord) -> None:
    progress.update(bar, description=state.add(record), completed=state.share)


def _print_line(console: Console, state: _TrainingProgress, record: TrialRecord) -> None:
    line = state.add(record)
    if time.monotonic() >= state.next_line_s:
        state.next_line_s = time.monotonic() + LINE_PERIOD_S
        console.print(line, soft_wrap=True)
