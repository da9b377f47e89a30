from __future__ import annotations

import asyncio
import errno
import os
import stat
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from aibench.api.events import WorkerLost
from aibench.errors import RunFolderError
from aibench.journal import GENESIS, JournalWriter, read_journal

PATIENCE_S = 30.0


def event(reason: str) -> WorkerLost:
    return WorkerLost(worker="w0", incarnation="a", reason=reason)


def reasons(path: Path) -> list[str]:
    found = []
    for record in read_journal(path).require_intact():
        assert isinstance(record.event, WorkerLost)
        found.append(record.event.reason)
    return found


def run(work: Coroutine[Any, Any, None]) -> None:
    """Run to the end; what hangs fails."""
    asyncio.run(asyncio.wait_for(work, PATIENCE_S))


class Clock:
    def __init__(self, *instants_s: float) -> None:
        self._instants_s = list(instants_s)

    def now_s(self) -> float:
        return self._instants_s.pop(0)


class FullDisk:
    """Accepts bytes of journal lines until it is full; other files are left alone."""

    def __init__(self, room_bytes: int) -> None:
        self.room_bytes = room_bytes
        self.write = os.write

    def __call__(self, file: int, data: bytes | memoryview) -> int:
        if b'"seq"' not in bytes(data):
            return self.write(file, data)
        if not self.room_bytes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = self.write(file, data[: self.room_bytes])
        self.room_bytes -= written
        return written


def of_files(fsync: Callable[[int], object]) -> Callable[[int], object]:
    """The journal's folder is synchronised once, when the journal is opened; that is not meant here."""
    return lambda handle: None if stat.S_ISDIR(os.fstat(handle).st_mode) else fsync(handle)


@pytest.fixture
def fsyncs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one with every fsync."""
    calls: list[int] = []
    monkeypatch.setattr(os, "fsync", of_files(calls.append))
    return calls


def slow_fsync(monkeypatch: pytest.MonkeyPatch) -> tuple[threading.Event, threading.Event]:
    """The next fsync sets the first event, then waits for the second."""
    begun, released = threading.Event(), threading.Event()

    def fsync(_: int) -> None:
        begun.set()
        assert released.wait(PATIENCE_S)

    monkeypatch.setattr(os, "fsync", of_files(fsync))
    return begun, released


def test_events_are_written_in_the_order_they_were_appended(tmp_path: Path) -> None:
    async def work() -> None:
        writer = JournalWriter(tmp_path / "journal", Clock(0.0, 1.5, 1.5).now_s)
        appended = [writer.append(event(reason)) for reason in "abc"]
        await writer.durable()
        writer.close()
        records = read_journal(tmp_path / "journal").require_intact()
        assert records == tuple(appended)
        assert [(record.seq, record.t_s) for record in records] == [(1, 0.0), (2, 1.5), (3, 1.5)]
        assert records[0].prev == GENESIS

    run(work())
    assert reasons(tmp_path / "journal") == ["a", "b", "c"]


def test_a_clock_that_goes_back_is_held(tmp_path: Path) -> None:
    async def work() -> None:
        writer = JournalWriter(tmp_path / "journal", Clock(7.0, 6.0, 8.0).now_s)
        assert [writer.append(event("")).t_s for _ in range(3)] == [7.0, 7.0, 8.0]
        await writer.durable()
        writer.close()

    run(work())
    assert len(reasons(tmp_path / "journal")) == 3


def test_times_are_kept_to_the_microsecond(tmp_path: Path) -> None:
    writer = JournalWriter(tmp_path / "journal", Clock(1.23456789).now_s)
    assert writer.append(event("")).t_s == 1.234568
    writer.close()


def test_an_event_is_on_disk_only_after_durable(tmp_path: Path, fsyncs: list[int]) -> None:
    async def work() -> None:
        writer = JournalWriter(tmp_path / "journal", lambda: 0.0)
        writer.append(event("kept"))
        assert (tmp_path / "journal").read_bytes() == b""
        await writer.durable()
        assert reasons(tmp_path / "journal") == ["kept"]
        assert len(fsyncs) == 1
        writer.append(event("never waited for"))
        writer.close()

    run(work())
    assert reasons(tmp_path / "journal") == ["kept"]


def test_waiting_for_nothing_new_touches_no_disk(tmp_path: Path, fsyncs: list[int]) -> None:
    async def work() -> None:
        writer = JournalWriter(tmp_path / "journal", lambda: 0.0)
        await writer.durable()
        writer.append(event("a"))
        await writer.durable()
        await writer.durable()
        writer.close()

    run(work())
    assert len(fsyncs) == 1


def test_a_hundred_that_wait_at_once_share_two_commits(tmp_path: Path, fsyncs: list[int]) -> None:
    async def client(writer: JournalWriter, number: int) -> None:
        writer.append(event(str(number)))
        await writer.durable()
        assert str(number) in reasons(tmp_path / "journal")

    async def work() -> None:
        writer = JournalWriter(tmp_path / "journal", lambda: 0.0)
        await asyncio.gather(*(client(writer, number) for number in range(100)))
        writer.close()

    run(work())
    assert reasons(tmp_path / "journal") == [str(number) for number in range(100)]
    # The first writes its own event; the other 99 gather behind it.
    assert len(fsyncs) == 2


def test_a_slow_disk_does_not_stop_the_event_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, released = slow_fsync(monkeypatch)

    async def work() -> None:
        writer = JournalWriter(tmp_path / "journal", lambda: 0.0)
        writer.append(event("a"))
        waiting = asyncio.create_task(writer.durable())
        while not begun.is_set():
            await asyncio.sleep(0.001)
        writer.append(event("b"))
        assert not waiting.done()
        released.set()  # Only this coroutine lets the disk go on: it must run while the disk is busy.
        await waiting
        assert reasons(tmp_path / "journal") == ["a"]
        await writer.durable()
        writer.close()

    run(work())
    assert reasons(tmp_path / "journal") == ["a", "b"]


def test_short_writes_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda file, data: write(file, data[:7]))

    async def work() -> None:
        writer = JournalWriter(tmp_path / "journal", lambda: 0.0)
        writer.append(event("a"))
        writer.append(event("b"))
        await writer.durable()
        writer.close()

    run(work())
    assert reasons(tmp_path / "journal") == ["a", "b"]


def refuse_fsync(_: int) -> None:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


@pytest.mark.parametrize(
    ("name", "replacement", "problem"),
    [
        pytest.param("write", FullDisk(room_bytes=0), "No space left on device", id="disk full"),
        pytest.param("fsync", of_files(refuse_fsync), "Input/output error", id="disk broken"),
    ],
)
def test_everyone_that_waits_learns_of_a_failing_disk(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    replacement: Callable[..., int],
    problem: str,
) -> None:
    monkeypatch.setattr(os, name, replacement)

    async def client(writer: JournalWriter) -> None:
        writer.append(event("a"))
        await writer.durable()

    async def work() -> None:
        writer = JournalWriter(tmp_path / "journal", lambda: 0.0)
        answers = await asyncio.gather(*(client(writer) for _ in range(20)), return_exceptions=True)
        assert {(type(answer), str(answer)) for answer in answers} == {
            (RunFolderError, f"{tmp_path}/journal: cannot be written ({problem})")
        }
        monkeypatch.undo()
        with pytest.raises(RunFolderError):
            await client(writer)
        writer.close()

    run(work())


def test_a_disk_that_fills_up_leaves_a_journal_that_can_be_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work() -> None:
        writer = JournalWriter(tmp_path / "journal", lambda: 0.0)
        writer.append(event("a"))
        await writer.durable()
        monkeypatch.setattr(os, "write", FullDisk(room_bytes=20))
        writer.append(event("b"))
        with pytest.raises(RunFolderError):
            await writer.durable()
        writer.close()

    run(work())
    journal = read_journal(tmp_path / "journal")
    assert [record.seq for record in journal.records] == [1]
    assert journal.is_cut_off


def test_a_failure_outlives_the_one_that_waited_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, released = threading.Event(), threading.Event()

    def fsync(_: int) -> None:
        if begun.is_set():
            return
        begun.set()
        assert released.wait(PATIENCE_S)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", of_files(fsync))

    async def work() -> None:
        writer = JournalWriter(tmp_path / "journal", lambda: 0.0)
        writer.append(event("lost"))
        waiting = asyncio.create_task(writer.durable())
        while not begun.is_set():
            await asyncio.sleep(0.001)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        released.set()
        writer.append(event("after it"))
        with pytest.raises(RunFolderError, match="Input/output error"):
            await writer.durable()
        writer.close()

    run(work())


def test_a_waiter_that_is_cancelled_loses_nobodys_events(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, released = slow_fsync(monkeypatch)

    async def work() -> None:
        writer = JournalWriter(tmp_path / "journal", lambda: 0.0)
        writer.append(event("a"))
        waiting = asyncio.create_task(writer.durable())
        while not begun.is_set():
            await asyncio.sleep(0.001)
        waiting.cancel()
        writer.append(event("b"))
        other = asyncio.create_task(writer.durable())
        released.set()
        await other
        writer.close()

    run(work())
    assert reasons(tmp_path / "journal") == ["a", "b"]


def test_a_journal_goes_on_after_its_last_record(tmp_path: Path) -> None:
    async def write(reason: str, now_s: float) -> None:
        path = tmp_path / "journal"
        last = read_journal(path).require_intact()[-1] if path.exists() else None
        writer = JournalWriter(path, lambda: now_s, last=last)
        await writer.durable()
        writer.append(event(reason))
        await writer.durable()
        writer.close()

    for reason, now_s in (("a", 5.0), ("b", 4.0), ("c", 9.0)):
        run(write(reason, now_s))
    assert reasons(tmp_path / "journal") == ["a", "b", "c"]
    records = read_journal(tmp_path / "journal").require_intact()
    assert [(record.seq, record.t_s) for record in records] == [(1, 5.0), (2, 5.0), (3, 9.0)]


def test_a_journal_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunFolderError) as refusal:
        JournalWriter(tmp_path / "file" / "journal", lambda: 0.0)
    assert str(refusal.value) == f"{tmp_path}/file/journal: cannot be written (Not a directory)"
