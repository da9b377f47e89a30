"""Keeping what the pods of workers print, in the log folders of the workers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO

LOG_NAME = "output.log"


class WorkerOutput:
    """Appends lines to the workers' logs; a pod is read from its beginning each time, and kept once."""

    def __init__(self) -> None:
        self._num_kept: dict[str, int] = {}

    def keep(
        self, lines: Iterable[tuple[str, str]], folders: Mapping[str, Path], workers: Mapping[str, str]
    ) -> None:
        """Append the lines that are new.

        Args:
            lines: Each with the pod that said it, from the pod's first line on.
            folders: Log folder of each worker.
            workers: The worker of each pod, as far as known; the others are taken for the first worker.

        Raises:
            OSError: A log cannot be written.
        """
        num_seen: dict[str, int] = {}
        with contextlib.ExitStack() as stack:
            logs: dict[str, IO[str]] = {}
            for pod, line in lines:
                num_seen[pod] = num_seen.get(pod, 0) + 1
                if num_seen[pod] <= self._num_kept.get(pod, 0):
                    continue
                worker = workers.get(pod, next(iter(folders)))
                if worker not in logs:
                    folders[worker].mkdir(parents=True, exist_ok=True)
                    logs[worker] = stack.enter_context((folders[worker] / LOG_NAME).open("a"))
                logs[worker].write(line + "\n")
        self._num_kept.update(num_seen)
