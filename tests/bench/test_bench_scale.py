"""The real master, as its own command, with 1 to 4,096 simulated workers on trials of ten minutes.

Time is compressed: trials, epochs and heartbeats come faster than in life by the factor that is printed, and
are as many per trial. Latencies are not compressed, so that a run as long as life would lose less.
"""

import asyncio
import contextlib
import gc
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest
import yaml
from support.crowd import Crowd, Findings
from support.outside_launcher import install_outside_launcher

from aibench.api.protocol import ControlAddress

pytestmark = pytest.mark.bench

TRIAL_S = 600.0
EPOCHS = 60
ROOT = Path(__file__).parents[2]
POLL_S = 0.05


@dataclass(frozen=True, kw_only=True)
class Step:
    """How many workers, by how much their time is compressed, and for how long they are watched."""

    num_workers: int
    compression: float
    watched_s: float


STEPS = (
    Step(num_workers=1, compression=100, watched_s=40),
    Step(num_workers=8, compression=100, watched_s=40),
    Step(num_workers=64, compression=50, watched_s=40),
    Step(num_workers=512, compression=16, watched_s=60),
    Step(num_workers=4096, compression=2, watched_s=300),
)
ALLOWED = {"claim p99": 50.0, "core": 1.0, "peak memory": 500.0, "lost": 0.005}
"""Milliseconds, share, megabytes, share."""

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
    """What one crowd and its master cost; the peak is that of serving, the last one includes the report."""

    findings: Findings
    elapsed_s: float
    core: float
    peak_mb: float
    last_peak_mb: float

    def claim_ms(self, percent: int) -> float:
        cuts = statistics.quantiles(self.findings.claims_s, n=100, method="inclusive")
        return cuts[percent - 1] * 1000

    @property
    def lost(self) -> float:
        return self.findings.lost_s / (self.findings.lost_s + self.findings.busy_s)

    def row(self, step: Step, alone_ms: float) -> str:
        found, p99_ms = self.findings, self.claim_ms(99)
        return (
            f"{step.num_workers:7} {step.compression:7.0f} {len(found.claims_s) / self.elapsed_s:9.1f} "
            f"{found.num_requests / self.elapsed_s:11.0f} {self.claim_ms(50):7.1f} ms {p99_ms:5.1f} ms "
            f"= {p99_ms / alone_ms:4.1f} ×  {self.core:6.1%} {self.peak_mb:4.0f} ({self.last_peak_mb:.0f}) "
            f"{self.lost:9.4%}"
        )


class MasterProcess:
    """``aibench run`` and what the system says of it."""

    def __init__(self, folder: Path, num_workers: int) -> None:
        config = folder / "config.yaml"
        workers = [{"count": num_workers, "device": "simulated"}]
        config.write_text(yaml.safe_dump({**CONFIG, "workers": workers}))
        paths = [ROOT, ROOT / "tests", install_outside_launcher(folder / "plugins")]
        self.log = folder / "master.log"
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "aibench", "run", str(config), "--out", str(folder / "run")],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths))},
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self._control = folder / "run" / "control.json"

    def address(self) -> ControlAddress:
        while not self._control.exists():
            assert self._process.poll() is None, self.log.read_text()
            time.sleep(POLL_S)
        return msgspec.json.decode(self._control.read_bytes(), type=ControlAddress)

    def cpu_s(self) -> float:
        times = psutil.Process(self._process.pid).cpu_times()
        return times.user + times.system

    def peak_mb(self) -> float:
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e6

    def end(self) -> float:
        """Interrupt it; its last peak, reports included."""
        self._process.send_signal(signal.SIGINT)
        peak_mb = self.peak_mb()
        while self._process.poll() is None:
            with contextlib.suppress(OSError, IndexError):
                peak_mb = self.peak_mb()
            time.sleep(POLL_S)
        assert self._process.returncode == 128 + signal.SIGINT, self.log.read_text()
        return peak_mb

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


async def watch(master: MasterProcess, step: Step) -> Figures:
    trial_s = TRIAL_S / step.compression
    async with Crowd(
        master.address(), step.num_workers, trial_s=trial_s, compression=step.compression
    ) as crowd:
        await crowd.first_claim()
        began_s, began_cpu_s = time.perf_counter(), master.cpu_s()
        num_before = crowd.findings.num_requests
        await asyncio.sleep(step.watched_s)
        elapsed_s, core_s = time.perf_counter() - began_s, master.cpu_s() - began_cpu_s
        crowd.findings.num_requests -= num_before
        peak_mb = master.peak_mb()
    return Figures(
        findings=crowd.findings,
        elapsed_s=elapsed_s,
        core=core_s / elapsed_s,
        peak_mb=peak_mb,
        last_peak_mb=await asyncio.to_thread(master.end),
    )


@contextlib.contextmanager
def without_collections() -> Iterator[None]:
    """This process's own pauses are not the master's."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def measure(folder: Path, step: Step) -> Figures:
    folder.mkdir()
    master = MasterProcess(folder, step.num_workers)
    try:
        with without_collections():
            return asyncio.run(watch(master, step))
    finally:
        master.kill()


def test_masters_of_one_to_4096_workers(tmp_path: Path) -> None:
    print(f"\ntrials of {TRIAL_S:.0f} s and {EPOCHS} epochs, {len(os.sched_getaffinity(0))} cores here, "
          f"load {os.getloadavg()[0]:.1f} before")  # fmt: skip
    print("workers  time ×  claims/s  requests/s  claim p50      p99            core  MB (report)  lost")
    alone_ms = None
    for step in STEPS:
        figures = measure(tmp_path / str(step.num_workers), step)
        p99_ms = figures.claim_ms(99)
        alone_ms = alone_ms or p99_ms
        print(figures.row(step, alone_ms), flush=True)
    reached = {
        "claim p99": p99_ms,
        "core": figures.core,
        "peak memory": max(figures.peak_mb, figures.last_peak_mb),
        "lost": figures.lost,
    }
    shares = ", ".join(f"{name} {value / ALLOWED[name]:.2f} ×" for name, value in reached.items())
    print(f"of what is allowed with {step.num_workers}: {shares}")
