"""The real master, as its own command, with up to 4,096 simulated workers; ratios against one worker."""

import asyncio
import gc
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest
import yaml
from support.crowd import Findings, RawConnection, SimulatedWorker, connect
from support.outside_launcher import install_outside_launcher

from aibench.api.protocol import ControlAddress

pytestmark = pytest.mark.bench

TRIAL_S = 600.0
EPOCHS = 60
JOINS_PER_S = 500
ROOT = Path(__file__).parents[2]
# Workers, by how much time is compressed, and how long this machine is asked to endure it.
STEPS = ((1, 100.0, 30.0), (8, 100.0, 30.0), (64, 100.0, 30.0), (512, 30.0, 60.0), (4096, 4.0, 240.0))

CONFIG: dict[str, Any] = {
    "name": "scale",
    "division": "smoke",
    "workload": {"name": "synthetic", "initial": "resnet18"},
    "launcher": {"name": "outside"},
    "limits": {"measured_time_s": 3600},
    "epochs": {"warmup": [], "full": EPOCHS},
}


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What one crowd and its master cost."""

    num_workers: int
    compression: float
    findings: Findings
    elapsed_s: float
    master_cpu_s: float
    peak_mb: float
    peak_after_mb: float
    ending_s: float


@contextmanager
def running_master(folder: Path, num_workers: int) -> Iterator[subprocess.Popen[bytes]]:
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump({**CONFIG, "workers": [{"count": num_workers, "device": "simulated"}]}))
    paths = [str(ROOT), str(ROOT / "tests"), str(install_outside_launcher(folder / "plugins"))]
    with (folder / "master.log").open("wb") as log:
        master = subprocess.Popen(
            [*MASTER, "run", str(config), "--out", str(folder / "run")],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            yield master
        finally:
            master.kill()
            master.wait()


MASTER = (sys.executable, "-m", "aibench")


def peak_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def cpu_s(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


async def work(folder: Path, master_pid: int, num_workers: int, compression: float, last_s: float) -> Figures:
    control = folder / "run" / "control.json"
    while not control.exists():
        assert psutil.Process(master_pid).status() != psutil.STATUS_ZOMBIE, (
            folder / "master.log"
        ).read_text()
        await asyncio.sleep(0.1)
    address = msgspec.json.decode(control.read_bytes(), type=ControlAddress)
    findings = Findings()
    ends_s = float("inf")
    connections: list[RawConnection] = [await connect(address) for _ in range(num_workers)]
    workers = []
    for number, connection in enumerate(connections):
        worker = SimulatedWorker(
            f"w{number}",
            connection,
            findings,
            trial_s=TRIAL_S / compression,
            compression=compression,
            is_over=lambda: time.perf_counter() > ends_s,
        )
        workers.append(asyncio.create_task(worker.serve()))
        await asyncio.sleep(1 / JOINS_PER_S)
    while not findings.claims_s:
        await asyncio.sleep(0.01)
        for worker in workers:
            if worker.done():
                worker.result()
    began_s, began_cpu_s, requests = time.perf_counter(), cpu_s(master_pid), findings.num_requests
    ends_s = began_s + last_s
    await asyncio.sleep(last_s)
    elapsed_s, used_s, peak = (
        time.perf_counter() - began_s,
        cpu_s(master_pid) - began_cpu_s,
        peak_mb(master_pid),
    )
    findings.num_requests -= requests
    for worker in workers:
        worker.cancel()
    for result in await asyncio.gather(*workers, return_exceptions=True):
        if isinstance(result, Exception):
            raise result
    assert not findings.problems, findings.problems[0]
    os.kill(master_pid, signal.SIGINT)
    after, ending_s = peak, time.perf_counter()
    while psutil.Process(master_pid).status() != psutil.STATUS_ZOMBIE:
        try:
            after = max(after, peak_mb(master_pid))
        except (OSError, IndexError):
            break
        await asyncio.sleep(0.05)
    ending_s = time.perf_counter() - ending_s
    for connection in connections:
        connection.close()
    return Figures(
        num_workers=num_workers,
        compression=compression,
        findings=findings,
        elapsed_s=elapsed_s,
        master_cpu_s=used_s,
        peak_mb=peak,
        peak_after_mb=after,
        ending_s=ending_s,
    )


def measured(folder: Path, num_workers: int, compression: float, last_s: float) -> Figures:
    folder.mkdir()
    with running_master(folder, num_workers) as master:
        gc.collect()
        gc.disable()
        try:
            return asyncio.run(work(folder, master.pid, num_workers, compression, last_s))
        finally:
            gc.enable()


def test_masters_of_one_to_4096_workers(tmp_path: Path) -> None:
    print()
    first = None
    p50 = 0.0
    for num_workers, compression, last_s in STEPS:
        figures = measured(tmp_path / str(num_workers), num_workers, compression, last_s)
        found = figures.findings
        cut = statistics.quantiles(found.claims_s, n=100)
        p50, p99 = cut[49] * 1000, cut[98] * 1000
        first = first or p99 or 1e-9
        print(
            f"{num_workers:5} workers, time × {compression:3.0f}: {len(found.claims_s) / figures.elapsed_s:6.1f} claims/s "
            f"{found.num_requests / figures.elapsed_s:6.0f} requests/s  claim p50 {p50:6.2f} p99 {p99:7.2f} max {max(found.claims_s) * 1000:.0f} ms "
            f"({p99 / first:5.1f} ×)  core {figures.master_cpu_s / figures.elapsed_s:6.1%}  "
            f"peak {figures.peak_mb:4.0f} MB, at end {figures.peak_after_mb:4.0f} MB in {figures.ending_s:.1f} s  lost {found.lost_s / (found.busy_s + found.lost_s):.4%} trials {found.num_trials}",
            flush=True,
        )
