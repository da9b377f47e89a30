"""Workers of this machine whose release or clock is another one, or which the engine refuses or forgets."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import msgspec

from aibench.api.launcher import WorkerState, WorkerStatus
from aibench.errors import LauncherError
from launchers.local import LocalLauncher

ODD = str(Path(__file__).parent / "odd")


class OddOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    version: str = ""
    skew_s: float = 0.0
    refused: str = ""
    deaf: int = 0


class OddLauncher(LocalLauncher):
    name: ClassVar[str] = "odd"
    options_type: ClassVar[type[msgspec.Struct]] = OddOptions

    def __init__(self, options: msgspec.Struct) -> None:
        super().__init__(options)
        assert isinstance(options, OddOptions)
        self._options = options
        self._deaf = options.deaf
        if options.version or options.skew_s:
            os.environ["PYTHONPATH"] = os.pathsep.join([ODD, os.environ.get("PYTHONPATH", "")])
            os.environ["ODD_VERSION"] = options.version
            os.environ["ODD_SKEW_S"] = str(options.skew_s or "")

    def states(self, hosts: Mapping[str, str]) -> Mapping[str, WorkerStatus]:
        if self._deaf:
            self._deaf -= 1
            raise LauncherError("the engine does not answer")
        found = super().states(hosts)
        if self._options.refused:
            refused = WorkerStatus(state=WorkerState.REFUSED, detail=self._options.refused)
            return dict.fromkeys(found, refused)
        return found
