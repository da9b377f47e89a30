"""Appending to a journal: ordered at once, durable in groups, without stopping the event loop."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from aibench.api.events import Event
from aibench.errors import RunFolderError
from aibench.journal.record import GENESIS, Record, seal_line


class JournalWriter:
    """The one writer of one journal file; owned by the master's event loop.

    `append` fixes an event's place and time at once. `durable` returns when everything appended before the
    call is on disk: whoever comes first writes for all that wait (group commit), in a thread.

    Args:
        path: The journal; created if absent.
        now_s: The run's clock.
        last: The last record already in the file, when a run goes on.

    Raises:
        RunFolderError: The file cannot be opened or, later, written.
    """

    def __init__(self, path: Path, now_s: Callable[[], float], *, last: Record | None = None) -> None:
        self._path = path
        self._now_s = now_s
        self._seq, self._prev, self._last_s = (last.seq, last.hash, last.t_s) if last else (0, GENESIS, 0.0)
        self._durable_seq = self._seq
        self._pending: list[bytes] = []
        self._writing: asyncio.Future[None] | None = None
        self._failure: RunFolderError | None = None
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="journal")
        try:
            self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            _make_entry_durable(path.parent)
        except OSError as error:
            raise RunFolderError(f"{path}: cannot be written ({error.strerror})") from error

    def append(self, event: Event, accept: Callable[[Record], object] | None = None) -> Record:
        """Give the event its place in the chain; it is durable only after `durable`.

        Args:
            accept: Sees the record first; if it raises, nothing is appended.
        """
        t_s = max(self._last_s, round(self._now_s(), 6))
        record, line = seal_line(seq=self._seq + 1, t_s=t_s, prev=self._prev, event=event)
        if accept is not None:
            accept(record)
        self._seq, self._prev, self._last_s = record.seq, record.hash, t_s
        self._pending.append(line)
        return record

    async def durable(self) -> None:
        """Wait until every event appended so far is on disk.

        Raises:
            RunFolderError: The disk refused; nothing appended since the last success is known to be kept.
        """
        wanted = self._seq
        while self._durable_seq < wanted:
            if self._failure:
                raise self._failure
            # Shielded: a waiter that is cancelled must not take the lines of all others with it.
            await asyncio.shield(self._writing or self._begin_write())

    def _begin_write(self) -> asyncio.Future[None]:
        """Write for everybody; whoever waits for it is woken at the same time, not one after another."""
        lines, self._pending = b"".join(self._pending), []
        last_seq = self._seq
        loop = asyncio.get_running_loop()
        written = self._writing = loop.create_future()

        def end(_: asyncio.Future[None]) -> None:
            self._writing = None
            if self._failure is None:
                self._durable_seq = last_seq
            written.set_result(None)

        loop.run_in_executor(self._executor, self._write, lines).add_done_callback(end)
        return written

    def _write(self, lines: bytes) -> None:
        # Failures are noted here, in the thread: whoever waits may be cancelled before it could note one.
        if self._failure:
            return
        try:
            view = memoryview(lines)
            while view:
                view = view[os.write(self._file, view) :]
            os.fsync(self._file)
        except OSError as error:
            self._failure = RunFolderError(f"{self._path}: cannot be written ({error.strerror})")
            self._failure.__cause__ = error

    def close(self) -> None:
        """Release the file; appended events that were never waited for are dropped."""
        self._executor.shutdown()
        os.close(self._file)


def _make_entry_durable(folder: Path) -> None:
    """A new file survives a crash of the node only when its folder is on disk too."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
