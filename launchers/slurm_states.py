"""From SLURM's words to ours: the one table of job states and of reasons to wait."""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping

from aibench.api.host import HostState, HostStatus
from aibench.api.launcher import WorkerState, WorkerStatus

logger = logging.getLogger(__name__)

FOLDER_NOT_SHARED = 66
"""Exit status of our scripts where a node does not see the run folder."""
NOT_SHARED_DETAIL = "its node does not see the run folder; expected one that all nodes share"

WORKER_STATES: Mapping[str, WorkerState] = {
    "PENDING": WorkerState.PENDING,
    "CONFIGURING": WorkerState.PENDING,
    "REQUEUED": WorkerState.PENDING,
    "REQUEUE_FED": WorkerState.PENDING,
    "REQUEUE_HOLD": WorkerState.PENDING,
    "RESV_DEL_HOLD": WorkerState.PENDING,
    "SPECIAL_EXIT": WorkerState.PENDING,
    "RUNNING": WorkerState.RUNNING,
    "RESIZING": WorkerState.RUNNING,
    "SIGNALING": WorkerState.RUNNING,
    "STAGE_OUT": WorkerState.RUNNING,
    "STOPPED": WorkerState.RUNNING,
    "SUSPENDED": WorkerState.RUNNING,
    # Processes may be left on a node; the word for how it ended follows.
    "COMPLETING": WorkerState.RUNNING,
    "COMPLETED": WorkerState.EXITED,
    "BOOT_FAIL": WorkerState.FAILED,
    "CANCELLED": WorkerState.FAILED,
    "DEADLINE": WorkerState.FAILED,
    "FAILED": WorkerState.FAILED,
    "NODE_FAIL": WorkerState.FAILED,
    "OUT_OF_MEMORY": WorkerState.FAILED,
    # Jobs of ours that can go on are submitted with --requeue: SLURM then says PENDING after it.
    "PREEMPTED": WorkerState.FAILED,
    "REVOKED": WorkerState.FAILED,
    "TIMEOUT": WorkerState.FAILED,
}

NEVER_REASONS = frozenset(
    {
        "AccountNotAllowed",
        "AssocGrpGRESMinutes",
        "AssocMaxBBPerJob",
        "AssocMaxCpuMinutesPerJobLimit",
        "AssocMaxCpuPerJobLimit",
        "AssocMaxGRESPerJob",
        "AssocMaxMemPerJob",
        "AssocMaxNodePerJobLimit",
        "AssocMaxWallDurationPerJobLimit",
        "BadConstraints",
        "DeadLine",
        "DependencyNeverSatisfied",
        "InvalidAccount",
        "InvalidQOS",
        "MaxCpuPerAccount",
        "MaxGRESPerAccount",
        "MaxMemPerLimit",
        "PartitionConfig",
        "PartitionNodeLimit",
        "PartitionTimeLimit",
        "QOSMaxCpuMinutesPerJobLimit",
        "QOSMaxCpuPerJobLimit",
        "QOSMaxCpuPerNode",
        "QOSMaxGRESPerJob",
        "QOSMaxGRESPerNode",
        "QOSMaxMemoryPerJob",
        "QOSMaxNodePerJobLimit",
        "QOSMaxWallDurationPerJobLimit",
        "QOSMinCpuNotSatisfied",
        "QOSMinGRES",
        "QOSNotAllowed",
        "QOSUsageThreshold",
        "ReservationDeleted",
    }
)
"""Why a job waits that will never run as it was asked for; held jobs, busy and absent nodes still may."""


def worker_status(word: str, reason: str, exit_status: int) -> WorkerStatus:
    """State of a worker that is a job, by what squeue or sacct says of it."""
    state = _state(word)
    if state is WorkerState.PENDING:
        if reason in NEVER_REASONS:
            return WorkerStatus(state=WorkerState.REFUSED, detail=f"SLURM will never start it: {reason}")
        return WorkerStatus(state=state, detail=_said(word, reason))
    if exit_status == FOLDER_NOT_SHARED:
        return WorkerStatus(state=WorkerState.REFUSED, detail=NOT_SHARED_DETAIL)
    if state.is_terminal:
        return WorkerStatus(state=state, detail=f"{_said(word, reason)}, exit status {exit_status}")
    return WorkerStatus(state=state, detail=_said(word, reason))


def host_status(word: str, reason: str, exit_status: int) -> HostStatus:
    """The same for the master's job; how its run ended is the journal's to say."""
    status = worker_status(word, reason, exit_status)
    if status.state is WorkerState.REFUSED and exit_status == FOLDER_NOT_SHARED:
        return HostStatus(state=HostState.ENDED, detail=f"the master: {status.detail}")
    return HostStatus(state=_HOST_STATES[status.state], detail=status.detail)


_HOST_STATES = {
    WorkerState.PENDING: HostState.PENDING,
    WorkerState.RUNNING: HostState.RUNNING,
    WorkerState.EXITED: HostState.ENDED,
    WorkerState.FAILED: HostState.ENDED,
    WorkerState.REFUSED: HostState.REFUSED,
}


def _state(word: str) -> WorkerState:
    # "CANCELLED by 1000", "CANCELLED+"
    name = word.split(" ")[0].rstrip("+")
    if name not in WORKER_STATES:
        _warn_of(name)
    return WORKER_STATES.get(name, WorkerState.RUNNING)


@functools.cache
def _warn_of(name: str) -> None:
    logger.warning("SLURM says %r of a job, which is unknown here: taken for running", name)


def _said(word: str, reason: str) -> str:
    """What our own word for the state does not say."""
    words = () if word in ("PENDING", "RUNNING") else (word,)
    return " ".join((*words, *(() if reason in ("", "None", "N/A") else (f"({reason})",))))
