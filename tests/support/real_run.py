"""Runs of the real command line in processes of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import yaml

WAIT_S = 120.0
AIBENCH = [sys.executable, "-m", "aibench"]

SHORT: dict[str, Any] = {
    "name": "short",
    "division": "smoke",
    "workload": {"name": "image_classification", "data": "digits", "initial": "resnet18", "width": 4},
    "workers": [{"count": 2, "ranks": 1, "device": "cpu", "oversubscribe": True}],
    "limits": {"measured_time_s": 20},
    "epochs": {"warmup": [3], "full": 4},
    "search": {"max_morphs": 1, "max_ops_ratio": 1.5, "space": {"kernel_size": {"choices": [3]}}},
    "control": {"heartbeat_s": 0.5, "lease_s": 10},
}


class Run:
    """A run of the real command line in a process of its own."""

    def __init__(self, tmp_path: Path, **changes: Any) -> None:
        self.root = tmp_path / "run"
        self.config = tmp_path / "config.yaml"
        self.config.write_text(yaml.safe_dump({**SHORT, **changes}))
        self.process: subprocess.Popen[str] | None = None

    def start(self, *options: str) -> None:
        self._launch("run", str(self.config), "--out", str(self.root), *options)

    def resume(self) -> None:
        self._launch("resume", str(self.root))

    def _launch(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [*AIBENCH, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def finish(self) -> tuple[int, str]:
        assert self.process is not None
        output, _ = self.process.communicate(timeout=WAIT_S)
        return self.process.returncode, output

    def kill_master(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.communicate()

    def signal_master(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def records(self) -> list[dict[str, Any]]:
        path = self.root / "journal.jsonl"
        if not path.exists():
            return []
        complete = path.read_text().rpartition("\n")[0]
        return [json.loads(line) for line in complete.splitlines()]

    def events(self, kind: str) -> list[dict[str, Any]]:
        return [record["event"] for record in self.records() if record["event"]["event"] == kind]

    def wait_for(self, kind: str, count: int) -> None:
        self.wait_until(lambda: len(self.events(kind)) >= count, f"{count} {kind}")

    def wait_until(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + WAIT_S
        while not condition():
            assert time.monotonic() < deadline, f"no {what} in time:\n{self.worker_logs()}"
            time.sleep(0.1)

    def worker_process(self, worker: str) -> psutil.Process:
        footprint = json.loads((self.root / "workers" / worker / "process.json").read_text())
        return psutil.Process(footprint[0] if isinstance(footprint, list) else footprint["pid"])

    def worker_logs(self) -> str:
        return "\n".join(path.read_text() for path in sorted(self.root.glob("workers/*/output.log")))

    def left_over_processes(self) -> list[str]:
        found = []
        for process in psutil.process_iter(["cmdline"]):
            line = " ".join(process.info["cmdline"] or [])
            if str(self.root) in line and process.pid != os.getpid():
                found.append(line)
        return found

    def clean_up(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.communicate()
        for process in psutil.process_iter(["cmdline"]):
            if str(self.root) in " ".join(process.info["cmdline"] or []):
                process.kill()


def aibench(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*AIBENCH, *map(str, arguments)], capture_output=True, text=True, timeout=WAIT_S, check=False
    )
