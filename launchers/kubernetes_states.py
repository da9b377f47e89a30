"""What Kubernetes says of pods, and what it means here: the one table of its words."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from aibench.api.launcher import WorkerState
from launchers.kubernetes_manifest import CONTAINER, POOL_LABEL, WORKER_LABEL

logger = logging.getLogger(__name__)


class Patience(Enum):
    """How long a pod may stay as it is before it counts as one that never will run."""

    ENDLESS = "endless"
    FOR_A_NODE = "for a node"
    FOR_AN_IMAGE = "for an image"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Meaning:
    """Our word for one of Kubernetes'."""

    state: WorkerState
    patience: Patience = Patience.ENDLESS


_PENDING = Meaning(WorkerState.PENDING)
_RUNNING = Meaning(WorkerState.RUNNING)
_FAILED = Meaning(WorkerState.FAILED)
_WITHOUT_NODE = Meaning(WorkerState.PENDING, Patience.FOR_A_NODE)
_WITHOUT_IMAGE = Meaning(WorkerState.PENDING, Patience.FOR_AN_IMAGE)
_IMPOSSIBLE = Meaning(WorkerState.PENDING, Patience.NONE)

MEANINGS: Mapping[str, Meaning] = {
    # before its containers run
    "Pending": _PENDING,
    "ContainerCreating": _PENDING,
    "PodInitializing": _PENDING,
    "SchedulingGated": _WITHOUT_NODE,
    "Unschedulable": _WITHOUT_NODE,
    "NoPod": _WITHOUT_NODE,  # ours: the Job controller has made none
    "ErrImagePull": _WITHOUT_IMAGE,
    "ImagePullBackOff": _WITHOUT_IMAGE,
    "RegistryUnavailable": _WITHOUT_IMAGE,
    "ImageInspectError": _WITHOUT_IMAGE,
    "ErrImageNeverPull": _IMPOSSIBLE,
    "InvalidImageName": _IMPOSSIBLE,
    # A Secret or ConfigMap that is created a moment later heals these.
    "CreateContainerConfigError": _WITHOUT_IMAGE,
    "CreateContainerError": _WITHOUT_IMAGE,
    "RunContainerError": _WITHOUT_IMAGE,
    # while they run
    "Running": _RUNNING,
    "Terminating": _RUNNING,
    "Unknown": _RUNNING,  # its node is silent: the lease of its worker decides
    "NodeLost": _RUNNING,
    "CrashLoopBackOff": _RUNNING,  # of a master, which is restarted in its pod
    # after them
    "Completed": Meaning(WorkerState.EXITED),
    "Error": _FAILED,
    "OOMKilled": _FAILED,
    "Evicted": _FAILED,
    "DeadlineExceeded": _FAILED,
    "BackoffLimitExceeded": _FAILED,
    "ContainerCannotRun": _FAILED,
    "ContainerStatusUnknown": _FAILED,
    "StartError": _FAILED,
    "Preempting": _FAILED,
    "Shutdown": _FAILED,
    "Terminated": _FAILED,
    "NodeShutdown": _FAILED,
    "NodeAffinity": _FAILED,
    "UnexpectedAdmissionError": _FAILED,
    "OutOfcpu": _FAILED,
    "OutOfmemory": _FAILED,
    "OutOfpods": _FAILED,
    "Gone": _FAILED,  # ours: deleted, by hand or with its node
}

_PHASES = {
    "Pending": "Pending",
    "Running": "Running",
    "Succeeded": "Completed",
    "Failed": "Error",
    "Unknown": "Unknown",
}
_unknown_words: set[str] = set()


@dataclass(frozen=True, kw_only=True, slots=True)
class Pod:
    """What matters here of a pod.

    Attributes:
        word: Kubernetes' word for how it is.
        detail: The word with what else was said, for people.
        started: Key of the life of its main container: it changes at a restart.
    """

    name: str
    pool: str
    worker: str
    job: str
    created: str
    word: str
    phase: str
    detail: str
    started: str

    @property
    def meaning(self) -> Meaning:
        """Our word for its word; by its phase if that is unknown."""
        if self.word in MEANINGS:
            return MEANINGS[self.word]
        if self.word not in _unknown_words:
            _unknown_words.add(self.word)
            logger.warning("pod %s: %r is a word that this release does not know", self.name, self.detail)
        return MEANINGS[_PHASES.get(self.phase, "Unknown")]

    @property
    def is_over(self) -> bool:
        """Whether it will never run again."""
        return self.meaning.state.is_terminal


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """What matters here of a Job.

    Attributes:
        is_replacing: Whether a pod of it that fails is replaced: none is once one has succeeded.
        failure: Why it gave up, if it did.
    """

    name: str
    pool: str
    worker: str
    parallelism: int
    is_replacing: bool
    failure: str


def pods_of(items: Iterable[Mapping[str, Any]]) -> list[Pod]:
    """The pods among the objects, oldest first."""
    pods = [_pod(item) for item in items if item["kind"] == "Pod"]
    return sorted(pods, key=lambda pod: (pod.created, pod.name))


def jobs_of(items: Iterable[Mapping[str, Any]]) -> list[Job]:
    """The Jobs among the objects."""
    return [_job(item) for item in items if item["kind"] == "Job"]


def _pod(item: Mapping[str, Any]) -> Pod:
    metadata, status = item["metadata"], item.get("status", {})
    container = _main_status(status)
    word, said = _word(metadata, status, container.get("state", {}))
    marks = metadata.get("labels", {})
    return Pod(
        name=metadata["name"],
        pool=marks.get(POOL_LABEL, ""),
        worker=marks.get(WORKER_LABEL, ""),
        job=marks.get("job-name", ""),
        created=metadata.get("creationTimestamp", ""),
        word=word,
        phase=status.get("phase", "Unknown"),
        detail=" ".join(f"{word}: {said}".split()) if said else word,
        started=f"{metadata.get('uid', '')}/{container.get('restartCount', 0)}",
    )


def _main_status(status: Mapping[str, Any]) -> Mapping[str, Any]:
    for container in status.get("containerStatuses", []):
        if container["name"] == CONTAINER:
            return container  # type: ignore[no-any-return]
    return {}


def _word(
    metadata: Mapping[str, Any], status: Mapping[str, Any], container: Mapping[str, Any]
) -> tuple[str, str]:
    """The most telling word for a pod, and what was said with it."""
    phase, terminated = status.get("phase", "Unknown"), container.get("terminated")
    if phase == "Failed" and status.get("reason"):
        return status["reason"], status.get("message", "")
    if terminated:
        return _terminated(terminated)
    if phase in ("Failed", "Succeeded"):
        return _PHASES[phase], status.get("message", "")
    if metadata.get("deletionTimestamp"):
        return "Terminating", status.get("reason", "")
    if waiting := container.get("waiting"):
        return waiting.get("reason", "Pending"), waiting.get("message", "")
    for condition in status.get("conditions", []):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return condition.get("reason", "Unschedulable"), condition.get("message", "")
    return status.get("reason") or phase, status.get("message", "")


def _terminated(terminated: Mapping[str, Any]) -> tuple[str, str]:
    code, message = terminated.get("exitCode", 0), terminated.get("message", "")
    reason = terminated.get("reason") or ("Completed" if code == 0 else "Error")
    # What ended well and has something to say knows better.
    if message and code == 0:
        return reason, message
    return reason, " ".join(filter(None, [f"exit status {code}", message]))


def _job(item: Mapping[str, Any]) -> Job:
    metadata, status = item["metadata"], item.get("status", {})
    marks = metadata.get("labels", {})
    ends = [
        c
        for c in status.get("conditions", [])
        if c["status"] == "True" and c["type"] in ("Failed", "Complete")
    ]
    failed = [f"{c.get('reason', '')}: {c.get('message', '')}" for c in ends if c["type"] == "Failed"]
    return Job(
        name=metadata["name"],
        pool=marks.get(POOL_LABEL, ""),
        worker=marks.get(WORKER_LABEL, ""),
        parallelism=item["spec"].get("parallelism", 1),
        is_replacing=not (ends or status.get("succeeded") or metadata.get("deletionTimestamp")),
        failure=failed[0] if failed else "",
    )
