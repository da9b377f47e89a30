"""Turnaround, overhead and the master's memory, read from a real smoke run."""

import os
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from aibench.score.report import Report

pytestmark = pytest.mark.bench

MASTER = """
import sys
from pathlib import Path
from aibench.config import load_config, resolve
from aibench.master.run import start_run
from support.memory import peak_memory_mb
start_run(resolve(load_config("smoke")), Path(sys.argv[1]), lambda coordinator: None)
print(f"{peak_memory_mb():.0f} {'torch' in sys.modules}")
"""


def test_smoke_run_turnaround_overhead_and_master_memory(tmp_path: Path) -> None:
    root = tmp_path / "run"
    master = subprocess.run(
        [sys.executable, "-c", MASTER, str(root)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True,
        text=True,
        check=True,
        timeout=180,
    )
    peak_mb, has_torch = master.stdout.split()
    report = msgspec.json.decode((root / "report.json").read_bytes(), type=Report)
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import torch"], check=True)
    fresh_s = time.perf_counter() - began
    assert report.turnaround is not None
    assert report.overhead is not None
    assert has_torch == "False"
    print()
    median_s = report.turnaround.median_s
    print(f"a fresh process importing torch     {fresh_s:6.3f} s   1 ×")
    print(f"finish → first step of next trial   {median_s:6.3f} s   {median_s / fresh_s:.3f} ×   "
          f"(longest {report.turnaround.max_s:.3f} s, {report.turnaround.count} turnarounds)")  # fmt: skip
    print(f"worker time not training or validating after start-up {report.overhead:.2%}")
    print(f"master's peak memory {peak_mb} MB, torch imported: {has_torch}")
