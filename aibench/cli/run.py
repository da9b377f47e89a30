"""``aibench run`` and ``aibench resume``."""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from aibench.master.loop import RunOutcome

quiet_option = click.option("--quiet", "-q", is_flag=True, help="No progress, only the result.")


@click.command("run", short_help="Run the benchmark of a configuration.")
@click.argument("config")
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), help="Run folder [default: runs/NAME-TIME]."
)
@click.option(
    "--set", "overrides", multiple=True, metavar="KEY.PATH=VALUE", help="Override a value; repeatable."
)
@click.option("--dry-run", is_flag=True, help="Check everything, print what would run, start nothing.")
@quiet_option
def run_command(
    config: str, out: Path | None, overrides: tuple[str, ...], dry_run: bool, quiet: bool
) -> None:
    """Run the benchmark that CONFIG describes: a YAML file or one of smoke, cifar10, imagenet.

    Ctrl-C ends the run early, scored and sealed.

    \b
    Example:
      aibench run cifar10 --set workload.data_dir=/data/cifar-10-batches-bin
      aibench run imagenet --set workload.data_dir=/data/imagenet --set workers.0.ranks=8 --dry-run
      aibench run my.yaml --out results/first --set limits.measured_time_s=7200
    """
    from aibench.cli.progress import watch
    from aibench.config import load_config, resolve

    resolved = resolve(load_config(config, overrides))
    root = out or default_root(resolved.config.name)
    if dry_run:
        from aibench.cli.plan import print_plan

        print_plan(resolved, root)
        return
    from aibench.cli.plan import warn_if_hopeless
    from aibench.master.run import start_run

    configure_logging()
    warn_if_hopeless(resolved)
    with watch(resolved, quiet=quiet) as on_progress:
        outcome = start_run(resolved, root, on_progress)
    finish(outcome, root)


@click.command("resume", short_help="Go on with a run whose master died.")
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
@quiet_option
def resume_command(directory: Path, quiet: bool) -> None:
    """Go on with the run in DIRECTORY after its master died.

    Finished epochs are kept, workers that are still alive are taken over. The time without a master counts
    as measured time: a run whose time is up is sealed at once. If it was sealed already, only its workers are
    ended and its reports written.

    \b
    Example:
      aibench resume runs/imagenet-20260101-120000
    """
    from aibench.cli.progress import watch
    from aibench.master.run import resolve_for_resume, resume_run

    resolved = resolve_for_resume(directory)
    configure_logging()
    with watch(resolved, quiet=quiet) as on_progress:
        outcome = resume_run(resolved, directory, on_progress)
    finish(outcome, directory)


def default_root(name: str) -> Path:
    """``runs/NAME-TIME`` in the working directory, time in UTC."""
    return Path("runs") / f"{name}-{datetime.now(UTC):%Y%m%d-%H%M%S}"


def configure_logging() -> None:
    """Warnings to standard error, one line each."""
    logging.basicConfig(level=logging.WARNING, format="aibench: %(message)s", stream=sys.stderr)


def finish(outcome: RunOutcome, root: Path) -> None:
    """Print the result and leave with the run's exit status."""
    from aibench.cli.tables import print_summary

    print_summary(outcome.report, root)
    sys.exit(exit_status(outcome))


def exit_status(outcome: RunOutcome) -> int:
    """128 + the signal that ended the run, else 1 for an invalid result, else 0."""
    if outcome.signal_number is not None:
        return 128 + outcome.signal_number
    return 1 if outcome.report.verdict == "invalid" else 0
