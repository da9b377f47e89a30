"""``aibench smoke``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from aibench.cli.text import printable

if TYPE_CHECKING:
    from aibench.config import ResolvedRun
    from aibench.score.report import Report

MIN_COMPLETED_TRIALS = 2


@dataclass(frozen=True, slots=True)
class Check:
    """One thing the smoke test wants to see."""

    name: str
    passed: bool
    detail: str


@click.command("smoke", short_help="Check this machine in under two minutes.")
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), help="Run folder [default: runs/smoke-TIME]."
)
@click.option(
    "--junit", type=click.Path(path_type=Path, dir_okay=False), help="Write the checks as JUnit XML, for CI."
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.option("--quiet", "-q", is_flag=True, help="No progress, only the result.")
def smoke_command(out: Path | None, junit: Path | None, as_json: bool, quiet: bool) -> None:
    """Check this machine in under two minutes: real training on real data, end to end.

    Two workers, one of them with two ranks, search networks for handwritten digits. Needs no network, no
    root, no accelerator; uses accelerators if there are any. Prints PASS or FAIL; exit status 0 or 1.

    \b
    Example:
      aibench smoke
      aibench smoke --out results/smoke --junit smoke.xml --json
    """
    from aibench.cli.progress import watch
    from aibench.cli.run import configure_logging, default_root
    from aibench.cli.tables import print_smoke
    from aibench.config import load_config, resolve
    from aibench.master.run import start_run

    resolved = resolve(load_config("smoke"))
    root = out or default_root("smoke")
    if junit is not None:
        _check_writable(junit)
    configure_logging()
    with watch(resolved, quiet=quiet or as_json) as on_progress:
        outcome = start_run(resolved, root, on_progress)
    checks = tuple(smoke_checks(outcome.report, resolved))
    if junit is not None:
        _write_junit(junit, checks, outcome.report)
    passed = all(check.passed for check in checks)
    if as_json:
        _print_json(outcome.report, checks)
    else:
        print_smoke(outcome.report, checks, root)
    if outcome.signal_number is not None:
        sys.exit(128 + outcome.signal_number)
    sys.exit(0 if passed else 1)


def smoke_checks(report: Report, resolved: ResolvedRun) -> Iterator[Check]:
    """The rules' findings, and that every part of the suite took part."""
    for finding in report.findings:
        yield Check(finding.rule, finding.passed is True, f"{finding.actual} (expected {finding.expected})")
    completed = [trial for trial in report.trials if trial.outcome == "completed"]
    yield Check(
        "completed-trials",
        len(completed) >= MIN_COMPLETED_TRIALS,
        f"{len(completed)} completed (expected {MIN_COMPLETED_TRIALS} or more)",
    )
    failed = [trial for trial in report.trials if trial.outcome in ("failed", "lost")]
    reasons = "; ".join(f"trial {trial.trial}: {trial.reason}" for trial in failed)
    yield Check("no-failures", not failed, reasons or "no trial failed")
    busy = {trial.worker for trial in report.trials if trial.finished_epochs}
    wanted = resolved.config.num_workers
    yield Check("all-workers", len(busy) >= wanted, f"{len(busy)} of {wanted} workers finished an epoch")


def _check_writable(path: Path) -> None:
    """Fail before the run rather than after it.

    Raises:
        RunFolderError: The file cannot be written.
    """
    from aibench.errors import RunFolderError

    try:
        path.open("ab").close()
    except OSError as error:
        raise RunFolderError(f"--junit {path}: cannot be written ({error.strerror})") from error


def _write_junit(path: Path, checks: tuple[Check, ...], report: Report) -> None:
    from junitparser import Failure, JUnitXml, TestCase, TestSuite

    suite = TestSuite("aibench smoke")
    for check in checks:
        case = TestCase(check.name, classname="aibench.smoke", time=0.0)
        if not check.passed:
            case.result = [Failure(printable(check.detail))]
        suite.add_testcase(case)
    suite.time = report.score.elapsed_s if report.score else 0.0
    document = JUnitXml()
    document.add_testsuite(suite)
    document.write(str(path), pretty=True)


def _print_json(report: Report, checks: tuple[Check, ...]) -> None:
    import msgspec

    document = {
        "passed": all(check.passed for check in checks),
        "checks": [{"name": c.name, "passed": c.passed, "detail": c.detail} for c in checks],
        "report": msgspec.to_builtins(report),
    }
    click.echo(msgspec.json.format(msgspec.json.encode(document), indent=1))
