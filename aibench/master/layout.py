"""Every path of a run folder, and the lock that keeps a second master out."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from aibench.api.launcher import worker_folder
from aibench.errors import RunFolderError
from aibench.private_file import write_private

__all__ = ["RunLayout", "write_private"]


@dataclass(frozen=True, slots=True)
class RunLayout:
    """Names inside one run folder.

    Attributes:
        given_name: Name of the run where it was named elsewhere, such as in a submitted master's command.
    """

    root: Path
    given_name: str = ""

    @property
    def run_name(self) -> str:
        """Name of the run for labels: given, or the folder's, made different from equally named ones."""
        if self.given_name:
            return self.given_name
        place = hashlib.sha256(os.fsencode(self.root)).hexdigest()
        return f"{self.root.name}-{place[:8]}"

    @property
    def submission(self) -> Path:
        """Where the master was submitted to, if it does not run where it was asked for."""
        return self.root / "submission.json"

    @property
    def config(self) -> Path:
        """The resolved configuration."""
        return self.root / "config.yaml"

    @property
    def journal(self) -> Path:
        """The truth."""
        return self.root / "journal.jsonl"

    @property
    def control(self) -> Path:
        """Address and token of the running master; mode 0600."""
        return self.root / "control.json"

    @property
    def lock(self) -> Path:
        """Held by the running master."""
        return self.root / "master.lock"

    @property
    def report_json(self) -> Path:
        """The report for programs."""
        return self.root / "report.json"

    @property
    def report_html(self) -> Path:
        """The report for people."""
        return self.root / "report.html"

    @property
    def stage_dir(self) -> Path:
        """Packed data and environment for the nodes."""
        return self.root / "stage"

    @property
    def weights_dir(self) -> Path:
        """Trained weights for children to inherit; on a file system that all workers share."""
        return self.root / "weights"

    def worker_dir(self, worker: str) -> Path:
        """Output of one worker."""
        return worker_folder(self.root, worker)

    def create(self) -> None:
        """Make the folder.

        Raises:
            RunFolderError: It exists and is not empty, or cannot be written.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            occupied = any(self.root.iterdir())
        except OSError as error:
            raise RunFolderError(f"{self.root}: cannot be made a run folder ({error.strerror})") from error
        if occupied:
            raise RunFolderError(f"{self.root}: is not empty; expected a new or empty folder")
        if not os.access(self.root, os.W_OK | os.X_OK):
            raise RunFolderError(f"{self.root}: cannot be written")

    def write_config(self, text: str) -> None:
        """Write the resolved configuration.

        Raises:
            RunFolderError: It cannot be written.
        """
        try:
            self.config.write_text(text, encoding="utf-8")
        except OSError as error:
            raise RunFolderError(f"{self.config}: cannot be written ({error.strerror})") from error

    def require_run(self) -> None:
        """Check that a run was started here.

        Raises:
            RunFolderError: There is no journal.
        """
        if not self.journal.is_file():
            raise RunFolderError(f"{self.root}: is no run folder (it has no {self.journal.name})")

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder for one master; the lock ends with the process, however it ends.

        Raises:
            RunFolderError: Another master holds it, or it cannot be locked.
        """
        with contextlib.ExitStack() as stack:
            try:
                handle = stack.enter_context(self.lock.open("a"))
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise RunFolderError(f"{self.root}: another master is running on this folder") from error
            except OSError as error:
                raise RunFolderError(f"{self.lock}: cannot be locked ({error.strerror})") from error
            yield
