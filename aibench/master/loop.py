"""The one loop: place workers, watch them, end the run, leave a scored and sealed folder."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from aibench.api.events import EndReason, Event
from aibench.api.launcher import WorkerSpec, WorkerState, WorkerStatus
from aibench.api.protocol import ControlAddress
from aibench.config import ResolvedRun, RunConfig
from aibench.errors import LauncherError, RunFolderError
from aibench.journal import JournalWriter
from aibench.master.clock import RunClock
from aibench.master.control import ControlServer, build_app
from aibench.master.coordinator import Coordinator
from aibench.master.garbage import rare_collections
from aibench.master.layout import RunLayout, write_private
from aibench.master.polling import Polling
from aibench.master.weights import KeptWeights
from aibench.score.history import RunHistory
from aibench.score.html import render_html
from aibench.score.report import Report, build_report
from aibench.search.search import Search

logger = logging.getLogger(__name__)

TICK_S = 0.2
STALL_S = 2.0
"""A pause between two ticks after which the master does not blame its workers for their silence."""
MAX_FRUITLESS_RESTARTS = 3
"""Restarts of one worker without a finished epoch in between, after which it is left dead."""
LOUD_FAILURES = 3
"""Unanswered questions in a row from which on the engine's silence is said; the leases watch meanwhile."""

ProgressCallback = Callable[[Coordinator], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class RunOutcome:
    """What is left of a run.

    Attributes:
        signal_number: The signal that ended it, if one did.
    """

    report: Report
    signal_number: int | None


def worker_specs(config: RunConfig, layout: RunLayout, *, python: str | None = None) -> list[WorkerSpec]:
    """The workers of a configuration: w0, w1, …; each entry of ``workers`` is a pool: p0, p1, …"""
    groups = [
        (f"p{number}", group) for number, group in enumerate(config.workers) for _ in range(group.count)
    ]
    return [
        WorkerSpec(
            run=layout.run_name,
            worker=f"w{number}",
            pool=pool,
            num_ranks=group.ranks,
            num_nodes=group.nodes_per_worker,
            device=group.device,
            oversubscribe=group.oversubscribe,
            control_file=layout.control,
            log_dir=layout.worker_dir(f"w{number}"),
            python=python,
        )
        for number, (pool, group) in enumerate(groups)
    ]


def _pools(specs: Sequence[WorkerSpec]) -> Mapping[str, Sequence[str]]:
    pools: dict[str, list[str]] = {}
    for spec in specs:
        pools.setdefault(spec.pool, []).append(spec.worker)
    return pools


@dataclass(slots=True)
class _Placement:
    """One worker's place: how often it was restarted since its last finished epoch."""

    spec: WorkerSpec
    fruitless_restarts: int = 0
    epochs_at_restart: int = 0
    is_given_up: bool = False
    why_given_up: str = ""


@dataclass
class Master:
    """Everything a running master holds; lives for one `run`.

    Attributes:
        listener: Where the control service answers.
        history: Empty for a new run, replayed for a resumed one.
        on_progress: Called at every tick.
        signal_number: The signal that asked the run to end.
    """

    resolved: ResolvedRun
    layout: RunLayout
    listener: socket.socket
    clock: RunClock
    history: RunHistory
    on_progress: ProgressCallback
    signal_number: int | None = None
    placements: dict[str, _Placement] = field(init=False)
    polling: Polling = field(init=False)
    states: Mapping[str, WorkerState] = field(init=False, default_factory=dict)
    journal: JournalWriter = field(init=False)
    weights: KeptWeights | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        specs = worker_specs(self.resolved.config, self.layout, python=self.resolved.worker_python)
        self.placements = {spec.worker: _Placement(spec) for spec in specs}
        self.polling = Polling(steady_s=self.resolved.launcher.poll_period_s)
        self.journal = JournalWriter(self.layout.journal, self.clock.now_s, last=self.history.last)
        if self.resolved.config.search.inherit_weights:
            self.weights = KeptWeights(self.layout.weights_dir, self.history)
            self.weights.make_folder()

    async def run(self, first: Event) -> RunOutcome:
        """Record ``first``, go on until the run ends, and write the reports."""
        try:
            self._record(first)
            await self.journal.durable()
            self._catch_signals()
            with rare_collections():
                async with self._service() as coordinator, self._workers():
                    await self._watch(coordinator)
                    await self.journal.durable()
        finally:
            self.journal.close()
        return RunOutcome(report=leave_folder(self.layout, self.history), signal_number=self.signal_number)

    def _record(self, event: Event) -> None:
        self.journal.append(event, accept=self.history.apply)

    @contextlib.asynccontextmanager
    async def _service(self) -> AsyncIterator[Coordinator]:
        config = self.resolved.config
        search = Search(
            config.search,
            self.resolved.initial,
            space=self.resolved.space,
            num_workers=config.num_workers,
            specialise=self.resolved.workload.specialise,
            seed=config.seed,
            memory=self.resolved.memory,
        )
        coordinator = Coordinator(
            self.resolved,
            self.history,
            search,
            self._record,
            self.clock.now_s,
            pools=_pools(self._specs),
            weights=self.weights,
        )
        host, port = self.listener.getsockname()[:2]
        token = secrets.token_urlsafe(32)
        url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        write_private(self.layout.control, msgspec.json.encode(ControlAddress(url=url, token=token)))
        app = build_app(coordinator, self.journal, token)
        server = ControlServer(app, keep_alive_s=3 * config.heartbeat_s)
        serving = asyncio.create_task(server.serve(sockets=[self.listener]))
        try:
            yield coordinator
        finally:
            server.should_exit = True
            await serving

    @contextlib.asynccontextmanager
    async def _workers(self) -> AsyncIterator[None]:
        launcher = self.resolved.launcher
        try:
            await asyncio.to_thread(launcher.start, self._specs)
            yield
        finally:
            await asyncio.to_thread(launcher.stop)

    @property
    def _specs(self) -> list[WorkerSpec]:
        return [placement.spec for placement in self.placements.values()]

    def _catch_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._note_signal, number)

    def _note_signal(self, number: int) -> None:
        self.signal_number = self.signal_number or number

    async def _watch(self, coordinator: Coordinator) -> None:
        ticked = time.monotonic()
        while not coordinator.is_over:
            await asyncio.sleep(TICK_S)
            gap_s, ticked = time.monotonic() - ticked, time.monotonic()
            if gap_s > STALL_S:
                coordinator.extend_leases(gap_s)
            coordinator.open_barrier_if_due()
            coordinator.expire_leases()
            if self.polling.is_due(time.monotonic()):
                await self._replace_dead_workers(coordinator)
            self._end_if_due(coordinator)
            if self.weights is not None and (trials := self.weights.newly_unneeded()):
                await asyncio.to_thread(self.weights.delete, trials)
            await self.journal.durable()
            self.on_progress(coordinator)

    def _end_if_due(self, coordinator: Coordinator) -> None:
        if self.signal_number is not None:
            coordinator.end(EndReason.SIGNAL, signal.Signals(self.signal_number).name)
        elif reason := coordinator.due_end:
            failed = reason is EndReason.FAILURES
            coordinator.end(reason, self.history.closed_trials[-1].closing_reason if failed else "")
        elif coordinator.unfit_workers and self.history.barrier is None:
            self._end_in_vain(coordinator, EndReason.UNFIT, next(iter(coordinator.unfit_workers.values())))
        elif coordinator.is_barrier_overdue or all(p.is_given_up for p in self.placements.values()):
            self._end_in_vain(coordinator, EndReason.NO_WORKERS, self._why_nobody_is_left())

    def _end_in_vain(self, coordinator: Coordinator, reason: EndReason, detail: str) -> None:
        logger.warning("%s: the run ends", detail)
        coordinator.end(reason, detail)

    def _why_nobody_is_left(self) -> str:
        reasons = {placement.why_given_up for placement in self.placements.values()} - {""}
        return "; ".join([*sorted(reasons), f"no worker is left, see {self.layout.worker_dir('*')}"])

    async def _replace_dead_workers(self, coordinator: Coordinator) -> None:
        statuses = await self._ask_launcher(coordinator)
        for worker, status in statuses.items():
            placement = self.placements[worker]
            is_expected = placement.is_given_up or coordinator.is_dismissed(worker)
            if is_expected or not status.state.is_terminal:
                continue
            coordinator.lose(worker, f"its processes ended ({status.detail})")
            if worker in coordinator.unfit_workers:
                self._give_up(placement, coordinator.unfit_workers[worker])
            elif status.state is WorkerState.REFUSED:
                self._give_up(placement, f"worker {worker} cannot be placed: {status.detail}")
            else:
                await self._restart(placement)

    async def _ask_launcher(self, coordinator: Coordinator) -> Mapping[str, WorkerStatus]:
        """What the launcher knows; nothing while its engine does not answer."""
        try:
            statuses = await asyncio.to_thread(self.resolved.launcher.states, coordinator.hosts)
        except LauncherError as error:
            self.polling.failed(time.monotonic())
            if self.polling.num_failures >= LOUD_FAILURES:
                logger.warning("%s (unanswered %d times in a row)", error, self.polling.num_failures)
            return {}
        states = {worker: status.state for worker, status in statuses.items()}
        self.polling.answered(time.monotonic(), changed=states != self.states)
        self.states = states
        return statuses

    def _give_up(self, placement: _Placement, reason: str) -> None:
        placement.is_given_up, placement.why_given_up = True, reason
        logger.warning("%s: given up", reason)

    async def _restart(self, placement: _Placement) -> None:
        worker = placement.spec.worker
        epochs = sum(len(t.epochs) for t in self.history.trials.values() if t.claimed.worker == worker)
        if epochs > placement.epochs_at_restart:
            placement.fruitless_restarts = 0
        placement.epochs_at_restart = epochs
        placement.fruitless_restarts += 1
        if placement.fruitless_restarts > MAX_FRUITLESS_RESTARTS:
            self._give_up(placement, f"worker {worker} keeps ending, see {placement.spec.log_dir}")
            return
        logger.warning("worker %s ended: starting it again; see %s", worker, placement.spec.log_dir)
        try:
            await asyncio.to_thread(self.resolved.launcher.start, [placement.spec])
        except LauncherError as error:
            logger.warning("worker %s: %s", worker, error)


def leave_folder(layout: RunLayout, history: RunHistory) -> Report:
    """Write the reports of a run that has ended and whose workers are gone.

    The address of the master goes last: while it is there, a resume has something left to do.

    Raises:
        RunFolderError: The folder cannot be written.
    """
    report = write_reports(layout, history)
    with contextlib.suppress(OSError):
        layout.control.unlink()
    return report


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
