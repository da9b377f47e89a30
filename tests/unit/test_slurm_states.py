import logging

import pytest

from aibench.api.host import HostState
from aibench.api.launcher import WorkerState
from launchers.slurm_states import FOLDER_NOT_SHARED, NEVER_REASONS, host_status, worker_status


@pytest.mark.parametrize(
    ("word", "worker", "host"),
    [
        ("PENDING", WorkerState.PENDING, HostState.PENDING),
        ("CONFIGURING", WorkerState.PENDING, HostState.PENDING),
        ("REQUEUED", WorkerState.PENDING, HostState.PENDING),
        ("REQUEUE_HOLD", WorkerState.PENDING, HostState.PENDING),
        ("SPECIAL_EXIT", WorkerState.PENDING, HostState.PENDING),
        ("RUNNING", WorkerState.RUNNING, HostState.RUNNING),
        ("SUSPENDED", WorkerState.RUNNING, HostState.RUNNING),
        ("COMPLETING", WorkerState.RUNNING, HostState.RUNNING),
        ("COMPLETED", WorkerState.EXITED, HostState.ENDED),
        ("FAILED", WorkerState.FAILED, HostState.ENDED),
        ("CANCELLED", WorkerState.FAILED, HostState.ENDED),
        ("CANCELLED by 1000", WorkerState.FAILED, HostState.ENDED),
        ("CANCELLED+", WorkerState.FAILED, HostState.ENDED),
        ("TIMEOUT", WorkerState.FAILED, HostState.ENDED),
        ("NODE_FAIL", WorkerState.FAILED, HostState.ENDED),
        ("BOOT_FAIL", WorkerState.FAILED, HostState.ENDED),
        ("OUT_OF_MEMORY", WorkerState.FAILED, HostState.ENDED),
        ("PREEMPTED", WorkerState.FAILED, HostState.ENDED),
        ("DEADLINE", WorkerState.FAILED, HostState.ENDED),
    ],
)
def test_slurms_words(word: str, worker: WorkerState, host: HostState) -> None:
    assert worker_status(word, "None", 0).state is worker
    assert host_status(word, "None", 0).state is host


def test_an_unknown_word_is_logged_once_and_taken_for_running(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert worker_status("LEVITATING", "None", 0).state is WorkerState.RUNNING
    assert [record.message for record in caplog.records] == [
        "SLURM says 'LEVITATING' of a job, which is unknown here: taken for running"
    ]


@pytest.mark.parametrize("reason", sorted(NEVER_REASONS))
def test_reasons_that_never_pass_refuse(reason: str) -> None:
    assert worker_status("PENDING", reason, 0).state is WorkerState.REFUSED
    assert host_status("PENDING", reason, 0).state is HostState.REFUSED
    assert reason in host_status("PENDING", reason, 0).detail


@pytest.mark.parametrize(
    "reason", ["Resources", "Priority", "ReqNodeNotAvail", "JobHeldUser", "BeginTime", "None"]
)
def test_reasons_that_may_pass_wait(reason: str) -> None:
    assert worker_status("PENDING", reason, 0).state is WorkerState.PENDING


def test_a_node_that_does_not_see_the_folder_is_told_apart() -> None:
    worker = worker_status("FAILED", "NonZeroExitCode", FOLDER_NOT_SHARED)
    assert worker.state is WorkerState.REFUSED
    assert "does not see the run folder" in worker.detail
    host = host_status("FAILED", "NonZeroExitCode", FOLDER_NOT_SHARED)
    assert host.state is HostState.ENDED
    assert "does not see the run folder" in host.detail


def test_details_add_to_our_word_for_the_state() -> None:
    assert worker_status("PENDING", "None", 0).detail == ""
    assert worker_status("PENDING", "Resources", 0).detail == "(Resources)"
    assert worker_status("RUNNING", "None", 0).detail == ""
    assert worker_status("NODE_FAIL", "NodeDown", 1).detail == "NODE_FAIL (NodeDown), exit status 1"
