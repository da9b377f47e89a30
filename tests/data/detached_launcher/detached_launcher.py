"""A launcher of another package: its master is a background process of this machine, found by its pid."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import msgspec
import psutil

from aibench.api.host import Host, HostState, HostStatus, MasterOrder
from aibench.errors import LauncherError
from launchers.local import LocalLauncher

MARK = "DETACHED_MASTER"
LOG_NAME = "master.log"


class DetachedOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    refuse: str = ""
    never: bool = False
    shares_files: bool = True


class DetachedHost(Host):
    def __init__(self, options: DetachedOptions) -> None:
        self._options = options
        self.shares_files = options.shares_files

    def check(self, order: MasterOrder) -> None:
        if self._options.refuse == "check":
            raise LauncherError("the engine is absent")

    def render(self, order: MasterOrder) -> str:
        return f"aibench master {order.run_dir} --run {order.run}"

    def submit(self, order: MasterOrder) -> str:
        if self._options.refuse == "submit":
            raise LauncherError("the engine refused")
        program = ["-c", "import time; time.sleep(1000)"] if self._options.never else self._program(order)
        with (order.run_dir / LOG_NAME).open("ab") as log:
            master = subprocess.Popen(
                [sys.executable, *program],
                env={**os.environ, MARK: "1"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return str(master.pid)

    def _program(self, order: MasterOrder) -> list[str]:
        return ["-m", "aibench", "master", str(order.run_dir), "--run", order.run]

    def status(self, reference: str) -> HostStatus:
        if not _is_alive(reference):
            return HostStatus(state=HostState.ENDED, detail="gone")
        if self._options.never:
            return HostStatus(state=HostState.REFUSED, detail="no such partition")
        return HostStatus(state=HostState.RUNNING)

    def logs(self, reference: str, run_dir: Path) -> Iterator[str]:
        with (run_dir / LOG_NAME).open() as log:
            while True:
                is_last = not _is_alive(reference)
                yield from map(str.rstrip, log)
                if is_last:
                    return
                time.sleep(0.1)

    def cancel(self, reference: str) -> None:
        if _is_alive(reference):
            psutil.Process(int(reference)).terminate()

    def fetch(self, reference: str, run_dir: Path) -> None:
        (run_dir / "fetched").touch()
        if self._options.never:
            self.cancel(reference)
            (run_dir / "fetched").unlink()
            (run_dir / LOG_NAME).unlink()


class DetachedLauncher(LocalLauncher):
    name: ClassVar[str] = "detached"
    options_type: ClassVar[type[msgspec.Struct]] = DetachedOptions

    def __init__(self, options: msgspec.Struct) -> None:
        super().__init__(options)
        assert isinstance(options, DetachedOptions)
        self._options = options

    def host(self) -> Host | None:
        return None if MARK in os.environ else DetachedHost(self._options)


def _is_alive(reference: str) -> bool:
    try:
        return psutil.Process(int(reference)).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
