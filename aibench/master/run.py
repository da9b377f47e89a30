"""The one loop: place workers, watch them, end the run, leave a scored and sealed folder."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import msgspec
import yaml

from aibench import __version__
from aibench.api.events import EndReason, Event, RunResumed, RunStarted
from aibench.api.launcher import Launcher, WorkerSpec
from aibench.api.protocol import ControlAddress
from aibench.config import ResolvedRun, RunConfig, resolve
from aibench.config.validate import to_section
from aibench.counting import RULES_VERSION
from aibench.errors import ConfigError, DataError, JournalError, LauncherError, RunFolderError
from aibench.journal import Journal, JournalWriter, read_journal
from aibench.master.clock import RunClock, read_anchor
from aibench.master.control import ControlServer, bind, build_app
from aibench.master.coordinator import Coordinator
from aibench.master.layout import RunLayout, write_private
from aibench.score.history import RunHistory
from aibench.score.html import render_html
from aibench.score.report import Report, build_report
from aibench.search.search import Search

logger = logging.getLogger(__name__)

TICK_S = 0.2
LAUNCHER_POLL_S = 1.0
STALL_S = 2.0
"""A pause between two ticks after which the master does not blame its workers for their silence."""
MAX_FRUITLESS_RESTARTS = 3
"""Restarts of one worker without a finished epoch in between, after which it is left dead."""

ProgressCallback = Callable[[Coordinator], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class RunOutcome:
    """What is left of a run.

    Attributes:
        signal_number: The signal that ended it, if one did.
    """

    report: Report
    signal_number: int | None


def start_run(resolved: ResolvedRun, root: Path, on_progress: ProgressCallback) -> RunOutcome:
    """Run a benchmark in a new folder.

    Raises:
        RunFolderError: The folder is not empty or cannot be written.
        LauncherError: The workers cannot be placed; nothing was written.
    """
    layout = RunLayout(root.absolute())
    resolved.launcher.check(worker_specs(resolved, layout))
    control = resolved.config.control
    with bind(control.host, control.port) as listener:
        layout.create()
        return _start(resolved, layout, listener, on_progress)


def _start(
    resolved: ResolvedRun, layout: RunLayout, listener: socket.socket, on_progress: ProgressCallback
) -> RunOutcome:
    with layout.locked():
        layout.write_config(yaml.safe_dump(resolved.document, sort_keys=False, allow_unicode=True))
        anchor = read_anchor()
        clock = RunClock([(0.0, anchor)])
        started = RunStarted(
            run=layout.root.name,
            aibench_version=__version__,
            rules_version=RULES_VERSION,
            division=resolved.config.division,
            search_enabled=resolved.config.search.is_enabled,
            seed=resolved.config.seed,
            anchor=anchor,
            workload=resolved.description,
            config=resolved.document,
        )
        master = _Master(resolved, layout, listener, clock, RunHistory(), on_progress)
        return asyncio.run(master.run(started))


def resume_run(resolved: ResolvedRun, root: Path, on_progress: ProgressCallback) -> RunOutcome:
    """Go on with a run whose master ended without sealing it.

    A half-written last line, as a crash leaves it, is cut off; any other damage is refused.

    Args:
        resolved: From `resolve_for_resume`.

    Raises:
        RunFolderError: No run, another master on it, or a wall clock that went back.
        DataError: The data or the workload changed since the run started.
        JournalError: The journal is damaged, or the run ended already.
    """
    layout = RunLayout(root.absolute())
    layout.require_run()
    with layout.locked():
        resolved.launcher.check(worker_specs(resolved, layout))
        journal = read_journal(layout.journal)
        history = _resumable(journal, root)
        _check_same_data(resolved, history)
        assert history.last is not None
        clock = RunClock(history.anchors, last_s=history.last.t_s)
        if journal.damage:
            _cut_off(layout.journal, journal.intact_bytes)
        with _listen_again(resolved, layout) as listener:
            master = _Master(resolved, layout, listener, clock, history, on_progress)
            return asyncio.run(master.run(RunResumed(anchor=read_anchor(), clock=clock.source)))


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
            return bind(control.host, httpx.URL(before.url).port or 0)
    return bind(control.host, control.port)


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
    history = _resumable(read_journal(layout.journal), root)
    return resolve(to_section(history.header.config, RunConfig))


def _resumable(journal: Journal, root: Path) -> RunHistory:
    if journal.damage and not journal.is_cut_off:
        raise journal.damage
    if not journal.records:
        raise JournalError("the journal is empty", line=1, recoverable=0)
    history = RunHistory.of(journal.records)
    if history.ended:
        raise RunFolderError(
            f"{root}: the run ended already ({history.ended.reason}); look at it with aibench report"
        )
    return history


def worker_specs(resolved: ResolvedRun, layout: RunLayout) -> list[WorkerSpec]:
    """The workers of a configuration: w0, w1, …"""
    groups = [group for group in resolved.config.workers for _ in range(group.count)]
    return [
        WorkerSpec(
            worker=f"w{number}",
            num_ranks=group.ranks,
            device=group.device,
            oversubscribe=group.oversubscribe,
            control_file=layout.control,
            log_dir=layout.worker_dir(f"w{number}"),
        )
        for number, group in enumerate(groups)
    ]


@dataclass(slots=True)
class _Placement:
    """One worker's place: how often it was restarted since its last finished epoch."""

    spec: WorkerSpec
    fruitless_restarts: int = 0
    epochs_at_restart: int = 0
    is_given_up: bool = False


@dataclass
class _Master:
    resolved: ResolvedRun
    layout: RunLayout
    listener: socket.socket
    clock: RunClock
    history: RunHistory
    on_progress: ProgressCallback
    signal_number: int | None = None
    placements: dict[str, _Placement] = field(default_factory=dict)
    journal: JournalWriter = field(init=False)

    def __post_init__(self) -> None:
        self.journal = JournalWriter(self.layout.journal, self.clock.now_s, last=self.history.last)

    async def run(self, first: Event) -> RunOutcome:
        """Record ``first``, go on until the run ends, and write the reports."""
        try:
            self._record(first)
            await self.journal.durable()
            self._catch_signals()
            async with self._service() as coordinator, self._workers():
                await self._watch(coordinator)
                await self.journal.durable()
        finally:
            self.journal.close()
        with contextlib.suppress(OSError):
            self.layout.control.unlink()
        return RunOutcome(report=write_reports(self.layout, self.history), signal_number=self.signal_number)

    def _record(self, event: Event) -> None:
        self.journal.append(event, accept=self.history.apply)

    @contextlib.asynccontextmanager
    async def _service(self) -> AsyncIterator[Coordinator]:
        config = self.resolved.config
        search = Search(
            config.search,
            self.resolved.initial,
            space=self.resolved.space,
            specialise=self.resolved.workload.specialise,
            seed=config.seed,
        )
        coordinator = Coordinator(self.resolved, self.history, search, self._record, self.clock.now_s)
        host, port = self.listener.getsockname()[:2]
        token = secrets.token_urlsafe(32)
        url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        write_private(self.layout.control, msgspec.json.encode(ControlAddress(url=url, token=token)))
        app = build_app(coordinator, self.journal, token)
        server = ControlServer(app, keep_alive_s=3 * config.control.heartbeat_s)
        serving = asyncio.create_task(server.serve(sockets=[self.listener]))
        try:
            yield coordinator
        finally:
            server.should_exit = True
            await serving

    @contextlib.asynccontextmanager
    async def _workers(self) -> AsyncIterator[None]:
        launcher = self.resolved.launcher
        specs = worker_specs(self.resolved, self.layout)
        self.placements = {spec.worker: _Placement(spec) for spec in specs}
        try:
            for spec in specs:
                await asyncio.to_thread(launcher.start, spec)
            yield
        finally:
            await asyncio.to_thread(launcher.stop, list(self.placements))

    def _catch_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._note_signal, number)

    def _note_signal(self, number: int) -> None:
        self.signal_number = self.signal_number or number

    async def _watch(self, coordinator: Coordinator) -> None:
        polled = ticked = time.monotonic()
        while not coordinator.is_over:
            await asyncio.sleep(TICK_S)
            gap_s, ticked = time.monotonic() - ticked, time.monotonic()
            if gap_s > STALL_S:
                coordinator.extend_leases(gap_s)
            coordinator.open_barrier_if_due()
            coordinator.expire_leases()
            if time.monotonic() - polled >= LAUNCHER_POLL_S:
                await self._replace_dead_workers(coordinator)
                polled = time.monotonic()
            self._end_if_due(coordinator)
            await self.journal.durable()
            self.on_progress(coordinator)

    def _end_if_due(self, coordinator: Coordinator) -> None:
        if self.signal_number is not None:
            coordinator.end(EndReason.SIGNAL, signal.Signals(self.signal_number).name)
        elif reason := coordinator.due_end:
            coordinator.end(reason)
        elif coordinator.is_barrier_overdue or all(p.is_given_up for p in self.placements.values()):
            coordinator.end(EndReason.NO_WORKERS, f"no worker is left; see {self.layout.worker_dir('*')}")

    async def _replace_dead_workers(self, coordinator: Coordinator) -> None:
        launcher: Launcher = self.resolved.launcher
        for worker, status in (await asyncio.to_thread(launcher.states)).items():
            placement = self.placements[worker]
            if not status.state.is_terminal or placement.is_given_up:
                continue
            if coordinator.is_dismissed(worker):
                continue
            coordinator.lose(worker, f"its processes ended ({status.detail})")
            await self._restart(placement)

    async def _restart(self, placement: _Placement) -> None:
        worker = placement.spec.worker
        epochs = sum(len(t.epochs) for t in self.history.trials.values() if t.claimed.worker == worker)
        if epochs > placement.epochs_at_restart:
            placement.fruitless_restarts = 0
        placement.epochs_at_restart = epochs
        placement.fruitless_restarts += 1
        if placement.fruitless_restarts > MAX_FRUITLESS_RESTARTS:
            placement.is_given_up = True
            logger.warning("worker %s keeps ending: given up; see %s", worker, placement.spec.log_dir)
            return
        logger.warning("worker %s ended: starting it again; see %s", worker, placement.spec.log_dir)
        try:
            await asyncio.to_thread(self.resolved.launcher.start, placement.spec)
        except LauncherError as error:
            logger.warning("worker %s: %s", worker, error)


def write_reports(layout: RunLayout, history: RunHistory) -> Report:
    """Compute the report from the history and write it for programs and for people.

    Raises:
        RunFolderError: The folder cannot be written.
    """
    report = build_report(history)
    try:
        layout.report_json.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1))
        layout.report_html.write_text(render_html(report), encoding="utf-8")
    except OSError as error:
        raise RunFolderError(f"{layout.root}: the reports cannot be written ({error.strerror})") from error
    return report
