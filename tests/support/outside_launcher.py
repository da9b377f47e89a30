"""A launcher for workers that come by themselves, and how a master in another process finds it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import msgspec

from aibench.api.launcher import Rendered, WorkerSpec, WorkerState, WorkerStatus
from launchers.local import LocalLauncher


class OutsideOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """There is nothing to set."""


class OutsideLauncher(LocalLauncher):
    """Places nothing, and believes that all is well."""

    name: ClassVar[str] = "outside"
    options_type: ClassVar[type[msgspec.Struct]] = OutsideOptions

    def __init__(self, options: msgspec.Struct) -> None:
        super().__init__(options)
        self._workers: list[str] = []

    def check(self, workers: Sequence[WorkerSpec]) -> None:
        """Anything goes."""

    def render(self, workers: Sequence[WorkerSpec]) -> Sequence[Rendered]:
        return []

    def start(self, workers: Sequence[WorkerSpec]) -> None:
        self._workers += [worker.worker for worker in workers]

    def states(self, hosts: Mapping[str, str]) -> Mapping[str, WorkerStatus]:
        return dict.fromkeys(self._workers, WorkerStatus(state=WorkerState.RUNNING))

    def stop(self) -> None:
        """They hear it from the master."""


def install_outside_launcher(folder: Path) -> Path:
    """Register it as a plugin of any Python with ``folder`` on its path; returns the folder."""
    package = folder / "outside_launcher-1.dist-info"
    package.mkdir(parents=True)
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: outside-launcher\nVersion: 1\n")
    (package / "entry_points.txt").write_text(
        "[aibench.launchers]\noutside = support.outside_launcher:OutsideLauncher\n"
    )
    return folder
