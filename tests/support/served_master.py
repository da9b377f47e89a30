"""The real control service on a loopback port, in a thread of the test's own process."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import httpx
import msgspec
from support.fake_master import ANCHOR, make_search, run_started
from support.fake_workload import make_config, make_resolved

from aibench.api.events import Event, RunResumed
from aibench.api.protocol import ControlAddress
from aibench.config import ResolvedRun, RunConfig
from aibench.errors import RunFolderError
from aibench.journal import JournalWriter, read_journal
from aibench.master.control import ControlServer, bind, build_app
from aibench.master.coordinator import Coordinator
from aibench.master.layout import write_private
from aibench.score.history import RunHistory

Result = TypeVar("Result")


class ServedMaster:
    """Serves from the journal in ``folder``, which it begins if there is none.

    ``resolved`` is for worker processes, which do not know the fake workload.
    """

    def __init__(
        self, folder: Path, config: RunConfig | None = None, *, resolved: ResolvedRun | None = None
    ) -> None:
        self.journal_file = folder / "journal.jsonl"
        self.control_file = folder / "control.json"
        self._resolved = resolved or make_resolved(config or make_config(workers=[{"count": 1}]))
        self._is_up = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self._thread.start()
        assert self._is_up.wait(30)

    async def _serve(self) -> None:
        records = read_journal(self.journal_file).require_intact() if self.journal_file.exists() else ()
        self._loop = asyncio.get_running_loop()
        self.history = RunHistory.of(records)
        self._began_s = self._loop.time() - (records[-1].t_s if records else 0.0)
        self._journal = JournalWriter(self.journal_file, self._now_s, last=self.history.last)
        self._record(RunResumed(anchor=ANCHOR, clock="monotonic") if records else run_started(self._resolved))
        self.coordinator = Coordinator(
            self._resolved, self.history, make_search(self._resolved), self._record, self._now_s
        )
        listener = bind("127.0.0.1", 0)
        self.token = secrets.token_urlsafe(8)
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        address = ControlAddress(url=self.url, token=self.token)
        write_private(self.control_file, msgspec.json.encode(address))
        self._server = ControlServer(
            build_app(self.coordinator, self._journal, self.token), keep_alive_s=15.0
        )
        self._is_up.set()
        await self._server.serve(sockets=[listener])
        with contextlib.suppress(RunFolderError):
            await self._journal.durable()
        self._journal.close()

    def _now_s(self) -> float:
        return self._loop.time() - self._began_s

    def _record(self, event: Event) -> None:
        self.history.apply(self._journal.append(event))

    def run(self, action: Callable[[], Result]) -> Result:
        """Do something on the master's own thread."""

        async def act() -> Result:
            return action()

        return asyncio.run_coroutine_threadsafe(act(), self._loop).result(30)

    def stop(self) -> None:
        if self._thread.is_alive():
            self._server.should_exit = True
            self._thread.join()

    def client(self, **settings: Any) -> httpx.Client:
        headers = {"Authorization": f"Bearer {self.token}"}
        plain = {"base_url": self.url, "headers": headers, "trust_env": False, "verify": False}
        return httpx.Client(**{**plain, **settings})

    def post(self, path: str, message: object) -> httpx.Response:
        with self.client() as client:
            return client.post(path, content=msgspec.json.encode(message))

    def events(self) -> list[dict[str, Any]]:
        """What is on disk."""
        records = read_journal(self.journal_file).require_intact()
        return [msgspec.to_builtins(record.event) for record in records]
