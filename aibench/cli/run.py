"""``aibench run`` and ``aibench resume``."""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from aibench.cli.text import printable

if TYPE_CHECKING:
    from aibench.api.host import Host
    from aibench.config import ResolvedRun, RunConfig
    from aibench.master.loop import RunOutcome
    from aibench.score.report import Report

quiet_option = click.option("--quiet", "-q", is_flag=True, help="No progress, only the result.")


@click.command("run", short_help="Run the benchmark of a configuration.")
@click.argument("config")
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), help="Run folder [default: runs/NAME-TIME]."
)
@click.option("--launcher", metavar="NAME", help="Where to run: local, slurm, kubernetes, mpi.")
@click.option(
    "--set", "overrides", multiple=True, metavar="KEY.PATH=VALUE", help="Override a value; repeatable."
)
@click.option("--dry-run", is_flag=True, help="Check everything, print what would run, start nothing.")
@click.option("--detach", is_flag=True, help="Submit and return; see aibench status, logs, cancel, fetch.")
@quiet_option
def run_command(
    config: str,
    out: Path | None,
    launcher: str | None,
    overrides: tuple[str, ...],
    dry_run: bool,
    detach: bool,
    quiet: bool,
) -> None:
    """Run the benchmark that CONFIG describes: a YAML file or one of smoke, cifar10, imagenet.

    Ctrl-C ends the run early, scored and sealed. On a cluster the master is submitted as a job, and followed
    until it ends.

    \b
    Example:
      aibench run cifar10 --set workload.data_dir=/data/cifar-10-batches-bin
      aibench run imagenet --set workload.data_dir=/data/imagenet --set workers.0.ranks=8 --dry-run
      aibench run imagenet --launcher slurm --set launcher.partition=gpu --detach
      aibench run my.yaml --out results/first --set limits.measured_time_s=7200
    """
    from aibench.config import load_config, resolve, resolve_launcher

    loaded = load_config(config, overrides, launcher=launcher)
    root = (out or default_root(loaded.name)).absolute()
    host = resolve_launcher(loaded.launcher).host()
    if host is None and detach:
        raise click.UsageError("--detach: the master of this launcher runs in this process")
    resolved = resolve(loaded) if host is None or host.shares_files else None
    if dry_run:
        _plan(host, loaded, resolved, root)
    elif host is not None:
        sys.exit(_run_hosted(host, loaded, resolved, root, detach=detach, quiet=quiet))
    else:
        assert resolved is not None
        _run_here(resolved, root, quiet=quiet)


def _plan(host: Host | None, config: RunConfig, resolved: ResolvedRun | None, root: Path) -> None:
    from aibench.cli.plan import print_plan, print_remote_plan

    if resolved is not None:
        print_plan(resolved, root)
    else:
        assert host is not None
        print_remote_plan(host, config, root)


def _run_here(resolved: ResolvedRun, root: Path, *, quiet: bool) -> None:
    from aibench.cli.plan import warn_if_hopeless
    from aibench.cli.progress import watch
    from aibench.master.run import start_run

    configure_logging()
    warn_if_hopeless(resolved)
    with watch(resolved, quiet=quiet) as on_progress:
        outcome = start_run(resolved, root, on_progress)
    finish(outcome, root)


def _run_hosted(
    host: Host, config: RunConfig, resolved: ResolvedRun | None, root: Path, *, detach: bool, quiet: bool
) -> int:
    import msgspec

    from aibench.cli.hosted import follow
    from aibench.cli.plan import warn_if_hopeless
    from aibench.master.layout import RunLayout
    from aibench.master.staging import check_stage
    from aibench.master.submission import order_of, submit

    if resolved is not None:
        check_stage(resolved)
        warn_if_hopeless(resolved)
    document = resolved.document if resolved is not None else msgspec.to_builtins(config)
    submission = submit(host, order_of(config, document, RunLayout(root)), document["launcher"])
    click.echo(f"aibench: submitted {submission.reference}, run folder {printable(str(root))}", err=True)
    return 0 if detach else follow(host, submission, root, quiet=quiet)


@click.command("resume", short_help="Go on with a run whose master died.")
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
@click.option("--detach", is_flag=True, help="Of a submitted run: submit again and return.")
@quiet_option
def resume_command(directory: Path, detach: bool, quiet: bool) -> None:
    """Go on with the run in DIRECTORY after its master died.

    Finished epochs are kept, workers that are still alive are taken over. The time without a master counts
    as measured time: a run whose time is up is sealed at once. If it was sealed already, only its workers are
    ended and its reports written.

    \b
    Example:
      aibench resume runs/imagenet-20260101-120000
    """
    from aibench.master.run import resolve_for_resume

    resolved = resolve_for_resume(directory)
    host = resolved.launcher.host()
    if host is None:
        if detach:
            raise click.UsageError("--detach: the master of this run runs in this process")
        finish(_resume(resolved, directory, quiet=quiet), directory)
        return
    from aibench.cli.hosted import follow
    from aibench.master.submission import resubmit

    submission = resubmit(host, resolved, directory)
    click.echo(f"aibench: submitted {submission.reference}", err=True)
    sys.exit(0 if detach else follow(host, submission, directory.absolute(), quiet=quiet))


def _resume(resolved: ResolvedRun, directory: Path, *, quiet: bool, run: str = "") -> RunOutcome:
    from aibench.cli.progress import watch
    from aibench.master.run import resume_run

    configure_logging()
    with watch(resolved, quiet=quiet) as on_progress:
        return resume_run(resolved, directory, on_progress, run=run)


@click.command("master", hidden=True)
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
@click.option("--run", default="", help="Name of the run for labels [default: made from the folder].")
def master_command(directory: Path, run: str) -> None:
    """Be the submitted master of the run in DIRECTORY: start it by its config.yaml or, if it began, go on."""
    from aibench.cli.progress import watch
    from aibench.config import load_config, resolve
    from aibench.master.layout import RunLayout
    from aibench.master.run import resolve_for_resume, start_submitted_run

    layout = RunLayout(directory.absolute(), run)
    if layout.journal.is_file() and layout.journal.stat().st_size:
        _finish_submitted(_resume(resolve_for_resume(directory), directory, quiet=False, run=run))
        return
    resolved = resolve(load_config(str(layout.config)))
    configure_logging()
    with watch(resolved, quiet=False) as on_progress:
        outcome = start_submitted_run(resolved, layout, on_progress)
    _finish_submitted(outcome)


def default_root(name: str) -> Path:
    """``runs/NAME-TIME`` in the working directory, time in UTC."""
    return Path("runs") / f"{name}-{datetime.now(UTC):%Y%m%d-%H%M%S}"


def configure_logging() -> None:
    """Warnings and the progress of staging to standard error, one line each."""
    logging.basicConfig(level=logging.WARNING, format="aibench: %(message)s", stream=sys.stderr)
    logging.getLogger("aibench.master.staging").setLevel(logging.INFO)


def finish(outcome: RunOutcome, root: Path) -> None:
    """Print the result and leave with the run's exit status."""
    from aibench.cli.tables import print_summary

    print_summary(outcome.report, root)
    sys.exit(exit_status(outcome.report, outcome.signal_number))


def _finish_submitted(outcome: RunOutcome) -> NoReturn:
    """Leave the result to whoever follows or fetches; the log gets one line."""
    report = outcome.report
    click.echo(f"aibench: the run ended: {report.end_reason} {report.end_detail}".rstrip(), err=True)
    sys.exit(exit_status(report, outcome.signal_number))


def exit_status(report: Report, signal_number: int | None) -> int:
    """128 + the signal that ended the run, else 1 for an invalid result, else 0."""
    if signal_number is not None:
        return 128 + signal_number
    return 1 if report.verdict == "invalid" else 0
