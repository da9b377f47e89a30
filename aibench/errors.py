"""The exceptions of aibench.

::

    AibenchError                 everything aibench raises on purpose; the CLI prints one line, exit status 2
    ├── ConfigError              a configuration value: key path, value, what was expected
    ├── ArchitectureError        a network that cannot be built or counted
    ├── DataError                a data set that is missing, empty or malformed
    ├── RunFolderError           a run folder that cannot be used: exists, locked, unwritable
    ├── JournalError             a journal that is corrupt, truncated or contradicts itself
    ├── StageError               data or environment could not be brought to a node's local disk
    ├── LauncherError            a launcher could not place or reach its workers
    ├── ProtocolError            the control service refused a request (carries the HTTP status)
    ├── TrialError               one trial failed; the worker records the reason and goes on
    ├── TrainerError             a process that trains for a comparison of searches ended or cannot start
    └── MasterAwayError          the master did not answer a worker; it may come back
"""

from __future__ import annotations


class AibenchError(Exception):
    """Base of every error that is raised on purpose; its text is one complete line."""


class ConfigError(AibenchError):
    """A configuration value is unusable.

    Args:
        path: Key path of the value, such as ``limits.measured_time_s``.
        problem: What was found and what was expected.
    """

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path}: {problem}" if path else problem)
        self.path = path
        self.problem = problem


class ArchitectureError(AibenchError):
    """A network description that no layer rule accepts."""


class DataError(AibenchError):
    """A data set is missing, empty, malformed or not what its description says."""


class RunFolderError(AibenchError):
    """A run folder exists already, is in use, or cannot be written."""


class JournalError(AibenchError):
    """A journal cannot be trusted from some line on.

    Args:
        problem: What is wrong.
        line: Number of the first bad line, counted from 1.
        recoverable: Number of records before it that are intact.
    """

    def __init__(self, problem: str, *, line: int, recoverable: int) -> None:
        super().__init__(f"journal line {line}: {problem}; the {recoverable} record(s) before it are intact")
        self.problem = problem
        self.line = line
        self.recoverable = recoverable


class StageError(AibenchError):
    """A folder could not be packed, brought to a node or unpacked there."""


class LauncherError(AibenchError):
    """A launcher could not start, find or stop workers."""


class ProtocolError(AibenchError):
    """The control service refused a request.

    Args:
        status: HTTP status code of the refusal.
        problem: Why it was refused.
        must_join: The worker must join (again) before it is heard.
    """

    def __init__(self, status: int, problem: str, *, must_join: bool = False) -> None:
        super().__init__(f"HTTP {status}: {problem}")
        self.status = status
        self.problem = problem
        self.must_join = must_join


class TrialError(AibenchError):
    """A trial cannot be trained to its end; it is recorded as failed and scores nothing."""


class TrainerError(AibenchError):
    """A process that trains a comparison's trials cannot be started, or ended before its work did."""


class MasterAwayError(AibenchError):
    """The master did not answer; it may come back, perhaps with another address and token."""
