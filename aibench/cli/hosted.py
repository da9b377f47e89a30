"""Masters that run elsewhere: ``aibench status``, ``logs``, ``cancel`` and ``fetch``, and following one."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from aibench.cli.text import printable

if TYPE_CHECKING:
    from types import FrameType

    from aibench.api.host import Host, HostStatus
    from aibench.master.submission import Submission
    from aibench.score.report import Report

directory_argument = click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
FOLLOW_PERIOD_S = 5.0
PAUSE_S = 0.2
LOG_GRACE_S = 10.0


@click.command("status", short_help="Tell how a submitted run stands.")
@directory_argument
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def status_command(directory: Path, as_json: bool) -> None:
    """Tell how the submitted run in DIRECTORY stands: its engine's word and, if it is here, its journal.

    \b
    Example:
      aibench status runs/imagenet-20260101-120000
    """
    submission, host = _find(directory)
    status, report = host.status(submission.reference), _report(directory)
    facts = {
        "run": directory.absolute().name,
        "launcher": submission.launcher.get("name"),
        "reference": submission.reference,
        "state": str(status.state),
        "detail": status.detail,
        "trials": len(report.trials) if report else None,
        "measured_s": report.score.elapsed_s if report and report.score else None,
        "best_error": report.score.error if report and report.score else None,
        "normalized_ops_per_s": report.score.normalized_ops_per_s if report and report.score else None,
        "end_reason": report.end_reason if report else None,
    }
    if as_json:
        import msgspec

        click.echo(msgspec.json.format(msgspec.json.encode(facts), indent=1))
    else:
        from aibench.cli.tables import print_status

        print_status(submission, status, report, directory)


@click.command("logs", short_help="Print what the master of a submitted run says.")
@directory_argument
def logs_command(directory: Path) -> None:
    """Print the output of the submitted master of the run in DIRECTORY, until it ends; Ctrl-C stops looking.

    \b
    Example:
      aibench logs runs/imagenet-20260101-120000
    """
    submission, host = _find(directory)
    for line in host.logs(submission.reference, directory.absolute()):
        click.echo(printable(line))


@click.command("cancel", short_help="End a submitted run early, scored and sealed.")
@directory_argument
def cancel_command(directory: Path) -> None:
    """Ask the master of the submitted run in DIRECTORY to end it now, scored and sealed.

    \b
    Example:
      aibench cancel runs/imagenet-20260101-120000
    """
    submission, host = _find(directory)
    host.cancel(submission.reference)
    click.echo(f"Asked {submission.reference} to end; aibench fetch {directory} brings what it has.")


@click.command("fetch", short_help="Bring the results of a submitted run home.")
@directory_argument
def fetch_command(directory: Path) -> None:
    """Bring the results of the submitted run in DIRECTORY into it.

    Of a run that has ended, everything that was created for it on the cluster is removed then.

    \b
    Example:
      aibench fetch runs/imagenet-20260101-120000
    """
    submission, host = _find(directory)
    host.fetch(submission.reference, directory.absolute())
    report = _report(directory)
    if report is None:
        click.echo(f"aibench: {directory}: nothing was recorded yet", err=True)
        sys.exit(1)
    from aibench.cli.tables import print_summary

    print_summary(report, directory)


def follow(host: Host, submission: Submission, root: Path, *, quiet: bool) -> int:
    """Show what a submitted master says until it ends, bring the results home, and return the exit status.

    The first SIGINT or SIGTERM ends the run early, scored and sealed.

    Raises:
        LauncherError: The master never came to run.
    """
    from aibench.errors import LauncherError
    from aibench.master.layout import RunLayout
    from aibench.master.submission import require_possible, withdraw

    with _signals() as caught:
        status = _wait(host, submission, root, caught, quiet=quiet)
    host.fetch(submission.reference, root)
    try:
        require_possible(status)
    except LauncherError:
        withdraw(RunLayout(root), remove_folder=True)
        raise
    return _conclude(root, status, caught)


def _wait(host: Host, submission: Submission, root: Path, caught: list[int], *, quiet: bool) -> HostStatus:
    from aibench.errors import LauncherError
    from aibench.master.polling import Polling

    polling, said, talker, is_cancelled = Polling(steady_s=FOLLOW_PERIOD_S), "", None, False
    while True:
        if caught and not is_cancelled:
            is_cancelled = _cancelled(host, submission)
        if not polling.is_due(time.monotonic()):
            time.sleep(PAUSE_S)
            continue
        try:
            status = host.status(submission.reference)
        except LauncherError as error:
            polling.failed(time.monotonic())
            _say(f"{error} (unanswered {polling.num_failures} times in a row)")
            continue
        word = f"{status.state} {status.detail}".strip()
        polling.answered(time.monotonic(), changed=word != said)
        if word != said and not quiet:
            _say(f"{submission.reference} is {word}")
        said = word
        if talker is None and not quiet and status.state == "running":
            talker = _talk(host, submission, root)
        if status.state.is_terminal:
            if talker is not None:
                talker.join(LOG_GRACE_S)
            return status


def _cancelled(host: Host, submission: Submission) -> bool:
    """Whether the engine took the request to end the run; without an answer it is to be asked again."""
    from aibench.errors import LauncherError

    try:
        host.cancel(submission.reference)
    except LauncherError as error:
        _say(f"{error}: asking again")
        time.sleep(PAUSE_S)
        return False
    _say("ending the run; its results are brought home")
    return True


def _talk(host: Host, submission: Submission, root: Path) -> threading.Thread:
    """Relay the master's output to standard error."""

    def relay() -> None:
        for line in host.logs(submission.reference, root):
            click.echo(printable(line), err=True)

    thread = threading.Thread(target=relay, daemon=True)
    thread.start()
    return thread


def _conclude(root: Path, status: HostStatus, caught: list[int]) -> int:
    from aibench.cli.run import exit_status
    from aibench.cli.tables import print_summary
    from aibench.errors import RunFolderError

    report = _report(root)
    if report is None:
        raise RunFolderError(f"{root}: the master ended before its first record ({status.detail})")
    if report.end_reason is None:
        _say(f"the master ended without sealing the run ({status.detail}): aibench resume {root}")
        return 1
    print_summary(report, root)
    ended_by = signal.Signals[report.end_detail] if report.end_reason == "signal" else None
    return exit_status(report, caught[0] if caught else ended_by)


def _find(directory: Path) -> tuple[Submission, Host]:
    from aibench.master.submission import host_of, read_submission

    submission = read_submission(directory)
    return submission, host_of(submission, directory)


def _report(directory: Path) -> Report | None:
    """What the journal says so far, if there is one here; a half-written last line is left out."""
    from aibench.journal import read_journal
    from aibench.master.layout import RunLayout
    from aibench.score.history import RunHistory
    from aibench.score.report import build_report

    layout = RunLayout(directory.absolute())
    if not layout.journal.is_file():
        return None
    journal = read_journal(layout.journal)
    if journal.damage and not journal.is_cut_off:
        raise journal.damage
    return build_report(RunHistory.of(journal.records)) if journal.records else None


@contextlib.contextmanager
def _signals() -> Iterator[list[int]]:
    """Numbers of the signals that came, in order."""
    caught: list[int] = []

    def note(number: int, _: FrameType | None) -> None:
        caught.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _say(text: str) -> None:
    click.echo(f"aibench: {printable(text)}", err=True)
