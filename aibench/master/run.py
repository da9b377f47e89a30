"""Starting a run in a new folder, and going on with one whose master died."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from pathlib import Path

import httpx
import msgspec
import yaml

from aibench import __version__
from aibench.api.events import RunResumed, RunStarted
from aibench.api.protocol import ControlAddress
from aibench.config import ResolvedRun, RunConfig, resolve
from aibench.config.validate import to_section
from aibench.counting import RULES_VERSION
from aibench.errors import ConfigError, DataError, JournalError, RunFolderError
from aibench.journal import Journal, read_journal
from aibench.master.clock import RunClock, read_anchor
from aibench.master.control import allow_connections, bind
from aibench.master.layout import RunLayout
from aibench.master.loop import Master, ProgressCallback, RunOutcome, leave_folder, worker_specs
from aibench.master.staging import check_stage, staged
from aibench.score.history import RunHistory


def start_run(resolved: ResolvedRun, root: Path, on_progress: ProgressCallback) -> RunOutcome:
    """Run a benchmark in a new folder.

    Raises:
        RunFolderError: The folder is not empty or cannot be written.
        LauncherError: The workers cannot be placed; nothing was written.
        ConfigError: They are more than this system can hold connections with, the address is taken, or there
            is nothing of the kind to stage.
    """
    layout = RunLayout(root.absolute())
    check_stage(resolved)
    resolved.launcher.check(worker_specs(resolved.config, layout))
    with _listen(resolved) as listener:
        layout.create()
        return _start(resolved, layout, listener, on_progress)


def start_submitted_run(
    resolved: ResolvedRun, layout: RunLayout, on_progress: ProgressCallback
) -> RunOutcome:
    """Run the benchmark of a folder that was made for it, with its configuration.

    Raises:
        LauncherError: The workers cannot be placed.
        ConfigError: They are more than this system can hold connections with, or the address is taken.
    """
    resolved.launcher.check(worker_specs(resolved.config, layout))
    with _listen(resolved) as listener:
        return _start(resolved, layout, listener, on_progress)


def _start(
    resolved: ResolvedRun, layout: RunLayout, listener: socket.socket, on_progress: ProgressCallback
) -> RunOutcome:
    with layout.locked():
        resolved = staged(resolved, layout)
        layout.write_config(yaml.safe_dump(resolved.document, sort_keys=False, allow_unicode=True))
        anchor = read_anchor()
        clock = RunClock([(0.0, anchor)])
        started = RunStarted(
            run=layout.root.name,
            aibench_version=__version__,
            rules_version=RULES_VERSION,
            division=resolved.config.division,
            search_enabled=resolved.config.search.is_enabled,
            search_departures=resolved.config.search.departures,
            seed=resolved.config.seed,
            anchor=anchor,
            workload=resolved.description,
            config=resolved.document,
        )
        master = Master(resolved, layout, listener, clock, RunHistory(), on_progress)
        return asyncio.run(master.run(started))


def resume_run(
    resolved: ResolvedRun, root: Path, on_progress: ProgressCallback, *, run: str = ""
) -> RunOutcome:
    """Go on with a run whose master ended without sealing it.

    A half-written last line, as a crash leaves it, is cut off; any other damage is refused. If the master
    died between the seal and the end of its workers, they are ended, and the reports are written.

    Args:
        resolved: From `resolve_for_resume`.
        run: The run's name for labels, where it was named elsewhere.

    Raises:
        RunFolderError: No run, another master on it, a run that ended, or a wall clock that went back.
        DataError: The data or the workload changed since the run started.
        JournalError: The journal is damaged.
    """
    layout = RunLayout(root.absolute(), run)
    layout.require_run()
    with layout.locked():
        resolved.launcher.check(worker_specs(resolved.config, layout))
        journal = read_journal(layout.journal)
        history = _resumable(journal, layout)
        if history.ended:
            resolved.launcher.stop()
            return RunOutcome(report=leave_folder(layout, history), signal_number=None)
        _check_same_data(resolved, history)
        assert history.last is not None
        clock = RunClock(history.anchors, last_s=history.last.t_s)
        allow_connections(resolved.config.num_workers)
        resolved = staged(resolved, layout)
        if journal.damage:
            _cut_off(layout.journal, journal.intact_bytes)
        with _listen_again(resolved, layout) as listener:
            master = Master(resolved, layout, listener, clock, history, on_progress)
            return asyncio.run(master.run(RunResumed(anchor=read_anchor(), clock=clock.source)))


def _listen(resolved: ResolvedRun) -> socket.socket:
    allow_connections(resolved.config.num_workers)
    return bind(control_host(resolved), resolved.config.control.port)


def control_host(resolved: ResolvedRun) -> str:
    """Address that the control service binds: the configuration's or else the launcher's choice."""
    return resolved.config.control.host or resolved.launcher.control_host()


def _check_same_data(resolved: ResolvedRun, history: RunHistory) -> None:
    if history.header.rules_version != RULES_VERSION:
        raise DataError(
            f"the run was started by rules {history.header.rules_version}, this release has {RULES_VERSION}: "
            "resume it with the release that started it"
        )
    found, recorded = resolved.description, history.header.workload
    if found != recorded:
        different = [
            name for name in recorded.__struct_fields__ if getattr(found, name) != getattr(recorded, name)
        ]
        raise DataError(
            f"the workload is not the one this run started with: {', '.join(different)} changed "
            f"(data set {found.dataset.name} has fingerprint {found.dataset.fingerprint[:16]}, "
            f"expected {recorded.dataset.fingerprint[:16]})"
        )


def _listen_again(resolved: ResolvedRun, layout: RunLayout) -> socket.socket:
    """Listen where the configuration says; without a fixed port, first where the workers still look."""
    control = resolved.config.control
    if control.port == 0:
        # Whatever is wrong with the old address, the workers read the new one.
        with contextlib.suppress(ConfigError, OSError, msgspec.MsgspecError, httpx.InvalidURL):
            before = msgspec.json.decode(layout.control.read_bytes(), type=ControlAddress)
            return bind(control_host(resolved), httpx.URL(before.url).port or 0)
    return bind(control_host(resolved), control.port)


def _cut_off(path: Path, length_bytes: int) -> None:
    try:
        os.truncate(path, length_bytes)
    except OSError as error:
        raise RunFolderError(f"{path}: cannot be cut to its intact part ({error.strerror})") from error


def resolve_for_resume(root: Path) -> ResolvedRun:
    """The configuration of an interrupted run, from its journal's first record.

    Raises:
        RunFolderError: No run here.
        JournalError: The first record is damaged.
        ConfigError: This installation cannot run that configuration.
    """
    layout = RunLayout(root.absolute())
    layout.require_run()
    history = _resumable(read_journal(layout.journal), layout)
    return resolve(to_section(history.header.config, RunConfig))


def _resumable(journal: Journal, layout: RunLayout) -> RunHistory:
    if journal.damage and not journal.is_cut_off:
        raise journal.damage
    if not journal.records:
        raise JournalError("the journal is empty", line=1, recoverable=0)
    history = RunHistory.of(journal.records)
    if history.ended and not layout.control.exists():
        raise RunFolderError(
            f"{layout.root}: the run ended already ({history.ended.reason}); look at it with aibench report"
        )
    return history
