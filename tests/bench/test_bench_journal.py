"""Replaying a journal, and appending to one without holding up the control service."""

import asyncio
import json
import statistics
import time
from pathlib import Path

import pytest
from support.runs import long_run, write_journal

from aibench.api.events import WorkerLost
from aibench.journal import JournalWriter, read_journal
from aibench.score.history import RunHistory

pytestmark = pytest.mark.bench

NUM_TRIALS = 400
EPOCHS = 60
APPENDS = 2000


def test_replaying_a_journal_against_parsing_its_json(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    write_journal(path, long_run(num_trials=NUM_TRIALS, epochs=EPOCHS))
    began = time.perf_counter()
    lines = path.read_bytes().splitlines()
    for line in lines:
        json.loads(line)
    parsed_s = time.perf_counter() - began
    began = time.perf_counter()
    history = RunHistory.of(read_journal(path).require_intact())
    replayed_s = time.perf_counter() - began
    assert len(history.trials) == NUM_TRIALS
    print()
    print(f"{len(lines)} events, {path.stat().st_size / 1e6:.1f} MB")
    print(f"json.loads alone                  {len(lines) / parsed_s:9.0f} events/s   1 ×")
    print(f"read, check chain and types, apply {len(lines) / replayed_s:8.0f} events/s   "
          f"{parsed_s / replayed_s:.2f} ×")  # fmt: skip


def test_event_loop_latency_while_appending(tmp_path: Path) -> None:
    async def latencies_ms(stop: asyncio.Event) -> list[float]:
        found = []
        while not stop.is_set():
            began = time.perf_counter()
            await asyncio.sleep(0.001)
            found.append((time.perf_counter() - began - 0.001) * 1000)
        return found

    async def idle() -> list[float]:
        stop = asyncio.Event()
        watching = asyncio.create_task(latencies_ms(stop))
        await asyncio.sleep(1)
        stop.set()
        return await watching

    async def busy() -> tuple[list[float], float]:
        writer = JournalWriter(tmp_path / "busy.jsonl", time.monotonic)
        stop = asyncio.Event()
        watching = asyncio.create_task(latencies_ms(stop))

        async def client() -> None:
            for _ in range(APPENDS // 16):
                writer.append(WorkerLost(worker="w0", incarnation="x", reason="bench"))
                await writer.durable()

        began = time.perf_counter()
        await asyncio.gather(*(client() for _ in range(16)))
        elapsed_s = time.perf_counter() - began
        stop.set()
        found = await watching
        writer.close()
        return found, elapsed_s

    quiet = asyncio.run(idle())
    loaded, elapsed_s = asyncio.run(busy())
    one_by_one_s = fsync_one_by_one_s(tmp_path / "alone.jsonl")
    print()
    for label, found in (("idle", quiet), ("16 clients appending with fsync", loaded)):
        cut = statistics.quantiles(found, n=100)
        print(f"event loop delay, {label:32} p50 {cut[49]:6.2f} ms   p99 {cut[98]:6.2f} ms")
    rate, alone = APPENDS / elapsed_s, 200 / one_by_one_s
    print(f"durable appends, fsync one by one   {alone:8.0f} events/s   1 ×")
    print(f"durable appends, group commit       {rate:8.0f} events/s   {rate / alone:.1f} ×")


def fsync_one_by_one_s(path: Path) -> float:
    async def work() -> float:
        writer = JournalWriter(path, time.monotonic)
        began = time.perf_counter()
        for _ in range(200):
            writer.append(WorkerLost(worker="w0", incarnation="x", reason="bench"))
            await writer.durable()
        writer.close()
        return time.perf_counter() - began

    return asyncio.run(work())
