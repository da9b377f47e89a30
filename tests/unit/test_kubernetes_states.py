import json
import logging
from pathlib import Path
from typing import Any

import pytest

from aibench.api.launcher import WorkerState
from launchers.kubernetes_states import MEANINGS, Patience, jobs_of, pods_of

RECORDED = Path(__file__).parents[1] / "data" / "kubernetes" / "recorded.json"
"""Pods and Jobs of a cluster of release 1.20, in every state that could be brought about."""
ITEMS: list[dict[str, Any]] = json.loads(RECORDED.read_text())["items"]
PODS = {pod.name: pod for pod in pods_of(ITEMS)}
JOBS = {job.name: job for job in jobs_of(ITEMS)}


@pytest.mark.parametrize(
    ("name", "word", "state", "patience"),
    [
        ("running", "Running", WorkerState.RUNNING, Patience.ENDLESS),
        ("terminating", "Terminating", WorkerState.RUNNING, Patience.ENDLESS),
        ("crash-loop", "CrashLoopBackOff", WorkerState.RUNNING, Patience.ENDLESS),
        ("unschedulable", "Unschedulable", WorkerState.PENDING, Patience.FOR_A_NODE),
        ("err-image-pull", "ErrImagePull", WorkerState.PENDING, Patience.FOR_AN_IMAGE),
        ("image-pull-back-off", "ImagePullBackOff", WorkerState.PENDING, Patience.FOR_AN_IMAGE),
        ("image-never-pull", "ErrImageNeverPull", WorkerState.PENDING, Patience.NONE),
        ("invalid-image-name", "InvalidImageName", WorkerState.PENDING, Patience.NONE),
        ("no-secret-key", "CreateContainerConfigError", WorkerState.PENDING, Patience.FOR_AN_IMAGE),
        ("no-secret-volume", "ContainerCreating", WorkerState.PENDING, Patience.ENDLESS),
        ("completed", "Completed", WorkerState.EXITED, Patience.ENDLESS),
        ("error", "Error", WorkerState.FAILED, Patience.ENDLESS),
        ("killed", "Error", WorkerState.FAILED, Patience.ENDLESS),
        ("crashing", "Error", WorkerState.FAILED, Patience.ENDLESS),
        ("not-found", "StartError", WorkerState.FAILED, Patience.ENDLESS),
        ("out-of-memory", "OOMKilled", WorkerState.FAILED, Patience.ENDLESS),
        ("deadline-exceeded", "DeadlineExceeded", WorkerState.FAILED, Patience.ENDLESS),
        ("evicted", "Evicted", WorkerState.FAILED, Patience.ENDLESS),
    ],
)
def test_recorded_pods_are_read(name: str, word: str, state: WorkerState, patience: Patience) -> None:
    pod = PODS[name]
    assert pod.word == word
    assert (pod.meaning.state, pod.meaning.patience) == (state, patience)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("error", "exit status 3"),
        ("unschedulable", "1 Insufficient cpu"),
        ("image-pull-back-off", 'Back-off pulling image "aibench:absent"'),
        ("evicted", "exceeds the limit"),
    ],
)
def test_what_was_said_is_kept_in_one_line(name: str, said: str) -> None:
    assert said in PODS[name].detail
    assert "\n" not in PODS[name].detail


def test_recorded_jobs_are_read() -> None:
    failed, drained, replacing = (JOBS[f"aibench-run-p{number}-0"] for number in range(3))
    assert (failed.is_replacing, drained.is_replacing, replacing.is_replacing) == (False, False, True)
    assert failed.failure.startswith("BackoffLimitExceeded: ")
    assert drained.failure == replacing.failure == ""
    assert replacing.parallelism == 3


def test_pods_of_a_job_name_it() -> None:
    assert {pod.job for pod in PODS.values() if pod.pool == "p2"} == {"aibench-run-p2-0"}


def test_an_unknown_word_is_logged_once_and_read_by_the_phase(caplog: pytest.LogCaptureFixture) -> None:
    status = {
        "phase": "Pending",
        "containerStatuses": [{"name": "aibench", "state": {"waiting": {"reason": "Pondering"}}}],
    }
    pod, other = pods_of([{"kind": "Pod", "metadata": {"name": name}, "status": status} for name in "ab"])
    with caplog.at_level(logging.WARNING):
        assert pod.meaning.state is other.meaning.state is WorkerState.PENDING
    assert [record.getMessage() for record in caplog.records] == [
        "pod a: 'Pondering' is a word that this release does not know"
    ]


def test_a_pod_without_status_is_no_reason_to_fall_over() -> None:
    (pod,) = pods_of([{"kind": "Pod", "metadata": {"name": "new"}}])
    assert not pod.is_over


def test_no_word_refuses_a_worker_at_once_but_those_without_patience() -> None:
    assert all(meaning.state is not WorkerState.REFUSED for meaning in MEANINGS.values())
