"""``aibench score``, ``aibench report`` and ``aibench verify``: what a run's journal says."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from aibench.journal import Record
    from aibench.master.layout import RunLayout
    from aibench.score.convergence import RunsConvergence
    from aibench.score.report import Report

directory_type = click.Path(path_type=Path, file_okay=False)


@click.command("score", short_help="Recompute scores from the journals alone.")
@click.argument("directories", nargs=-1, required=True, type=directory_type)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Also write the convergence of several runs as a page, such as convergence.html.",
)
def score_command(directories: tuple[Path, ...], as_json: bool, out: Path | None) -> None:
    """Recompute the score of the run in each DIRECTORY from its journal alone.

    Several valid runs of one configuration get their olympic mean (without the best and the worst) and
    coefficient of variation, and their normalized score after a sixteenth of the shortest run's measured time
    to the whole of it: mean, spread between the runs, and slope. Of others it is said why not.

    \b
    Example:
      aibench score runs/imagenet-20260101-120000
      aibench score runs/imagenet-* --json
      aibench score runs/imagenet-* --out convergence.html
    """
    from aibench.cli.tables import print_scores
    from aibench.score.report import why_incomparable
    from aibench.score.statistics import summarize_runs

    reports = [_load_report(directory)[1] for directory in directories]
    obstacle = why_incomparable(reports) if len(reports) > 1 else "one run"
    values = [report.score.normalized_ops_per_s for report in reports if report.score]
    summary = summarize_runs(values) if obstacle is None else None
    convergence = _convergence(directories, reports) if obstacle is None else None
    if out is not None:
        _write_convergence(convergence, obstacle, out)
    if as_json:
        import msgspec

        runs = [
            {
                "run": report.run,
                "verdict": report.verdict,
                "score": report.score,
                "stability": report.stability,
            }
            for report in reports
        ]
        document = {
            "runs": runs,
            "summary": msgspec.to_builtins(summary) if summary else None,
            "convergence": msgspec.to_builtins(convergence) if convergence else None,
            "no_summary_because": obstacle,
        }
        click.echo(msgspec.json.format(msgspec.json.encode(document), indent=1))
    else:
        print_scores(reports, summary, obstacle, convergence)


@click.command("report", short_help="Show a run; write report.json and report.html.")
@click.argument("directory", type=directory_type)
def report_command(directory: Path) -> None:
    """Print the run in DIRECTORY as tables, and write report.json and report.html beside its journal.

    report.html is one file that opens without a network.

    \b
    Example:
      aibench report runs/imagenet-20260101-120000
    """
    from aibench.cli.tables import print_report
    from aibench.master.loop import write_reports
    from aibench.score.history import RunHistory

    layout, records = _load(directory)
    print_report(write_reports(layout, RunHistory.of(records)), directory)


@click.command("verify", short_help="Check hash chain, records, rules and report.")
@click.argument("directory", type=directory_type)
def verify_command(directory: Path) -> None:
    """Check the run in DIRECTORY: hash chain, every record, the rules, and report.json against the journal.

    Exit status 0: valid; 1: a rule is broken, or report.json says something else; 2: no intact journal.

    \b
    Example:
      aibench verify runs/imagenet-20260101-120000
    """
    from aibench.cli.tables import print_verification
    from aibench.score.report import VALID

    layout, report = _load_report(directory)
    disagreement = _disagreement(layout, report)
    print_verification(report, disagreement)
    sys.exit(0 if report.verdict in VALID and not disagreement else 1)


def _load(directory: Path) -> tuple[RunLayout, tuple[Record, ...]]:
    from aibench.journal import read_journal
    from aibench.master.layout import RunLayout

    layout = RunLayout(directory)
    layout.require_run()
    return layout, read_journal(layout.journal).require_intact()


def _load_report(directory: Path) -> tuple[RunLayout, Report]:
    from aibench.score.history import RunHistory
    from aibench.score.report import build_report

    layout, records = _load(directory)
    return layout, build_report(RunHistory.of(records))


def _convergence(directories: Sequence[Path], reports: Sequence[Report]) -> RunsConvergence:
    """Of several comparable runs; reads their journals again, one at a time."""
    from aibench.convergence import lengths
    from aibench.score.convergence import runs_convergence, scores_at

    measured_time_s = min(report.score.elapsed_s for report in reports if report.score)
    times_s = lengths(measured_time_s)
    scores = [scores_at(_load(directory)[1], times_s) for directory in directories]
    return runs_convergence([report.run for report in reports], scores, measured_time_s)


def _write_convergence(convergence: RunsConvergence | None, obstacle: str | None, path: Path) -> None:
    from aibench import __version__
    from aibench.errors import RunFolderError
    from aibench.score.convergence import render_convergence

    if convergence is None:
        raise click.UsageError(
            f"--out draws several valid runs of one configuration; here is no common mean: {obstacle}"
        )
    try:
        path.write_text(render_convergence(convergence, aibench_version=__version__), encoding="utf-8")
    except OSError as error:
        raise RunFolderError(f"{path}: cannot be written ({error.strerror})") from error


def _disagreement(layout: RunLayout, report: Report) -> str | None:
    """How report.json differs from what the journal says; None if it agrees or is absent."""
    import msgspec

    if not layout.report_json.exists():
        return None
    try:
        written = msgspec.json.decode(layout.report_json.read_bytes())
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        return f"report.json cannot be read: {error}"
    expected = msgspec.json.decode(msgspec.json.encode(report))
    if not isinstance(written, dict):
        return "report.json is not a report"
    different = sorted(key for key in expected if written.get(key) != expected[key])
    return f"report.json differs from the journal in {', '.join(different)}" if different else None
