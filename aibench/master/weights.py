"""Which trained weights a run keeps for children, and which trial a child inherits from.

Workers write the weights; the master only names them and deletes those that no child will need. They lie in
the run folder, so that the folder must be on a file system that all workers share; where it is not, trials
start from scratch and their epochs say so.
"""

from __future__ import annotations

import bisect
import contextlib
import re
from collections import deque
from pathlib import Path

from aibench.api.events import Lineage, Outcome
from aibench.api.workload import Inheritance
from aibench.errors import RunFolderError
from aibench.score.history import RunHistory

NUM_BEST = 64
NUM_LATEST = 64
"""Parents are picked among the best and the latest; older weights would fill the disk."""

_TRIAL_FILE = re.compile(r"trial-(\d+)\..+")


class KeptWeights:
    """The weights that children of a run may start from, as its history tells.

    Args:
        folder: Where workers leave them.
        history: Of the run; read at every call.
    """

    def __init__(self, folder: Path, history: RunHistory) -> None:
        self.folder = folder
        self._history = history
        self._num_seen = 0
        self._num_tidied = 0
        self._best: list[tuple[float, int]] = []
        self._latest: deque[tuple[float, int]] = deque(maxlen=NUM_LATEST)

    def parent_of(self, lineage: Lineage) -> Inheritance | None:
        """The best completed trial of the lineage's parent network; None if no weights of one are kept."""
        if lineage.parent is None:
            return None
        self._catch_up()
        for _, number in sorted({*self._best, *self._latest}):
            claimed = self._history.trials[number].claimed
            if claimed.architecture_hash == lineage.parent:
                return Inheritance(
                    trial=number, architecture=claimed.spec.architecture, morphs=lineage.morphs
                )
        return None

    def make_folder(self) -> None:
        """Make the folder if it is not there.

        Raises:
            RunFolderError: It cannot be made.
        """
        try:
            self.folder.mkdir(exist_ok=True)
        except OSError as error:
            raise RunFolderError(f"{self.folder}: cannot be made ({error.strerror})") from error

    def newly_unneeded(self) -> frozenset[int]:
        """Closed trials whose weights no child will start from; none if asked again before a trial closes."""
        if self._num_tidied == len(self._history.closed_trials):
            return frozenset()
        self._catch_up()
        self._num_tidied = self._num_seen
        kept = {number for _, number in (*self._best, *self._latest)}
        for trial in self._history.open_trials.values():
            if trial.claimed.spec.parent is not None:
                kept.add(trial.claimed.spec.parent.trial)
        return frozenset(trial.number for trial in self._history.closed_trials if trial.number not in kept)

    def delete(self, trials: frozenset[int]) -> None:
        """Delete the files of these trials, half-written ones included; one that resists stays."""
        with contextlib.suppress(OSError):
            for path in self.folder.iterdir():
                match = _TRIAL_FILE.fullmatch(path.name)
                if match and int(match[1]) in trials:
                    with contextlib.suppress(OSError):
                        path.unlink()

    def _catch_up(self) -> None:
        for trial in self._history.closed_trials[self._num_seen :]:
            if trial.closed is not None and trial.closed.outcome is Outcome.COMPLETED:
                assert trial.error is not None
                entry = (trial.error, trial.number)
                bisect.insort(self._best, entry)
                self._latest.append(entry)
        del self._best[NUM_BEST:]
        self._num_seen = len(self._history.closed_trials)
