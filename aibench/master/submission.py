"""Handing the master over to an engine; the run folder keeps what was submitted."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import msgspec
import yaml

from aibench.api.host import Host, HostState, HostStatus, MasterOrder
from aibench.config import ResolvedRun, RunConfig, resolve_launcher
from aibench.errors import ConfigError, LauncherError, RunFolderError
from aibench.master.layout import RunLayout, write_private
from aibench.master.loop import worker_specs


class Submission(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the engine was given.

    Attributes:
        launcher: The configuration's section of that name.
        reference: What the host calls it.
    """

    launcher: dict[str, Any]
    reference: str


def order_of(config: RunConfig, document: dict[str, Any], layout: RunLayout) -> MasterOrder:
    """The order for a master that runs this configuration.

    Args:
        document: The configuration as it shall be written, as plain data.
    """
    return MasterOrder(
        run=layout.run_name,
        run_dir=layout.root,
        config=yaml.safe_dump(document, sort_keys=False, allow_unicode=True),
        workers=worker_specs(config, layout),
        measured_time_s=config.limits.measured_time_s,
    )


def submit(host: Host, order: MasterOrder, launcher: dict[str, Any]) -> Submission:
    """Submit a master for a new run folder; a refused one leaves no folder behind.

    Raises:
        LauncherError: The engine refused.
        RunFolderError: The folder is not empty or cannot be written.
    """
    host.check(order)
    layout = RunLayout(order.run_dir)
    is_new = not layout.root.exists()
    layout.create()
    layout.write_config(order.config)
    try:
        return _send(host, order, launcher)
    except LauncherError:
        withdraw(layout, remove_folder=is_new)
        raise


def resubmit(host: Host, resolved: ResolvedRun, root: Path) -> Submission:
    """Submit a master that goes on with an interrupted run.

    Raises:
        LauncherError: The engine refused, or the master submitted before is still there.
    """
    layout = RunLayout(root.absolute())
    if layout.submission.exists():
        before = read_submission(root)
        status = host.status(before.reference)
        if not status.state.is_terminal:
            raise LauncherError(
                f"{root}: its master is {status.state} as {before.reference}; nothing to resume "
                f"(aibench status {root})"
            )
    order = order_of(resolved.config, resolved.document, layout)
    host.check(order)
    return _send(host, order, resolved.document["launcher"])


def _send(host: Host, order: MasterOrder, launcher: dict[str, Any]) -> Submission:
    submission = Submission(launcher=launcher, reference=host.submit(order))
    write_private(RunLayout(order.run_dir).submission, msgspec.json.encode(submission))
    return submission


def withdraw(layout: RunLayout, *, remove_folder: bool) -> None:
    """Take back the folder of a run that never began; one with a journal did, and stays as it is."""
    if layout.journal.exists():
        return
    with contextlib.suppress(OSError):
        layout.submission.unlink(missing_ok=True)
        layout.config.unlink(missing_ok=True)
        if remove_folder:
            layout.root.rmdir()


def read_submission(root: Path) -> Submission:
    """What was submitted for the run folder.

    Raises:
        RunFolderError: Nothing was, or the record cannot be read.
    """
    path = RunLayout(root).submission
    try:
        return msgspec.json.decode(path.read_bytes(), type=Submission)
    except FileNotFoundError as error:
        raise RunFolderError(
            f"{root}: no master was submitted from here (it has no {path.name}); "
            "one that runs in a terminal ends by Ctrl-C"
        ) from error
    except (OSError, msgspec.MsgspecError) as error:
        raise RunFolderError(f"{path}: cannot be read ({error})") from error


def host_of(submission: Submission, root: Path) -> Host:
    """The host that a master was submitted to.

    Raises:
        RunFolderError: This installation has no such host.
    """
    try:
        host = resolve_launcher(submission.launcher).host()
    except ConfigError as error:
        raise RunFolderError(f"{RunLayout(root).submission}: {error}") from error
    if host is None:
        raise RunFolderError(
            f"{root}: its master was submitted from outside; ask there ({submission.reference})"
        )
    return host


def require_possible(status: HostStatus) -> None:
    """Pass what may still run.

    Raises:
        LauncherError: The engine says that it never will.
    """
    if status.state is HostState.REFUSED:
        raise LauncherError(f"the master cannot be placed: {status.detail}")
