from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from support.workers import worker

from aibench.api.launcher import WorkerState
from launchers.kubernetes_logs import WorkerOutput
from launchers.kubernetes_manifest import RunNames
from launchers.kubernetes_options import KubernetesOptions
from launchers.kubernetes_places import Observed, Places
from launchers.kubernetes_plan import NOTHING, missing_jobs
from launchers.kubernetes_states import Job, Patience, Pod

PENDING, RUNNING, EXITED = WorkerState.PENDING, WorkerState.RUNNING, WorkerState.EXITED
FAILED, REFUSED = WorkerState.FAILED, WorkerState.REFUSED
OPTIONS = KubernetesOptions(image="aibench:cpu")
WORKERS = [worker(worker="w0"), worker(worker="w1")]
GANG = worker(worker="g0", pool="p1", num_ranks=4, num_nodes=2)


def pod(name: str, word: str = "Running", **changes: Any) -> Pod:
    phases = {"Completed": "Succeeded", "Error": "Failed", "Unschedulable": "Pending"}
    known: dict[str, Any] = {"pool": "p0", "worker": "", "job": "run-p0-0", "created": name, "detail": word}
    return Pod(name=name, word=word, phase=phases.get(word, "Running"), started=name, **{**known, **changes})


def job(name: str = "run-p0-0", **changes: Any) -> Job:
    known: dict[str, Any] = {
        "pool": "p0",
        "worker": "",
        "parallelism": 2,
        "is_replacing": True,
        "failure": "",
    }
    return Job(name=name, **{**known, **changes})


def gang_pod(name: str, word: str = "Running", *, of: str = "run-g0-0") -> Pod:
    return pod(name, word, pool="p1", worker="g0", job=of)


def gang_job(name: str = "run-g0-0", **changes: Any) -> Job:
    return job(name, pool="p1", worker="g0", **changes)


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def places(clock: Clock) -> Places:
    made = Places({Patience.NONE: 0.0, Patience.FOR_A_NODE: 60.0}, clock)
    for spec in WORKERS:
        made.renew(spec)
    return made


def states(
    places: Places, *pods: Pod, hosts: Mapping[str, str] | None = None, jobs: list[Job] | None = None
) -> list[WorkerState]:
    observed = Observed(pods=pods, jobs=[job()] if jobs is None else jobs)
    return [status.state for status in places.statuses(observed, hosts or {}).values()]


def test_pods_that_nobody_joined_from_are_dealt_out_in_order(places: Places) -> None:
    assert states(places) == [PENDING, PENDING]
    assert states(places, pod("a")) == [RUNNING, PENDING]
    assert states(places, pod("a"), pod("b", "Unschedulable")) == [RUNNING, PENDING]


def test_workers_are_in_the_pods_that_they_joined_from(places: Places) -> None:
    hosts = {"w0": "b", "w1": "a"}
    assert states(places, pod("a", "Error"), pod("b"), hosts=hosts) == [RUNNING, FAILED]


def test_the_end_of_a_pod_is_told_until_its_worker_is_renewed_and_then_never_again(places: Places) -> None:
    hosts = {"w0": "a", "w1": "b"}
    pods = [pod("a", "Error"), pod("b"), pod("c")]
    assert states(places, *pods, hosts=hosts) == [FAILED, RUNNING]
    assert states(places, *pods, hosts=hosts) == [FAILED, RUNNING]
    assert places.renew(WORKERS[0])
    assert states(places, *pods, hosts=hosts) == [RUNNING, RUNNING]
    assert states(places, *pods, hosts={"w0": "c", "w1": "b"}) == [RUNNING, RUNNING]


def test_a_pod_that_ends_before_anybody_joins_is_told_of_one_worker(places: Places) -> None:
    assert states(places, pod("a", "Error"), pod("b")) == [FAILED, RUNNING]
    places.renew(WORKERS[0])
    assert states(places, pod("a", "Error"), pod("b"), pod("c")) == [RUNNING, RUNNING]


def test_a_deleted_pod_is_the_end_of_the_worker_that_was_in_it(places: Places) -> None:
    hosts = {"w0": "a", "w1": "b"}
    found = places.statuses(Observed(pods=[pod("b"), pod("c")], jobs=[job()]), hosts)
    assert found["w0"].state is FAILED
    assert found["w0"].detail == "its pod is gone"
    places.renew(WORKERS[0])
    assert states(places, pod("b"), pod("c"), hosts=hosts) == [RUNNING, RUNNING]


def test_a_new_launcher_leaves_out_what_ended_before_but_not_who_was_there(
    places: Places,
) -> None:
    pods = [pod("old", "Error"), pod("a", "Error"), pod("b")]
    places.settle(Observed(pods=pods, jobs=[job()]))
    assert states(places, *pods, hosts={"w0": "a"}) == [FAILED, RUNNING]


def test_patience_ends(places: Places, clock: Clock) -> None:
    waiting = pod("a", "Unschedulable"), pod("b", "InvalidImageName")
    assert states(places, *waiting) == [PENDING, REFUSED]
    clock.now_s = 59.0
    assert states(places, *waiting) == [PENDING, REFUSED]
    clock.now_s = 60.0
    assert states(places, *waiting) == [REFUSED, REFUSED]


def test_a_worker_for_whom_no_pod_is_made_is_refused_in_time(places: Places, clock: Clock) -> None:
    assert states(places, pod("a")) == [RUNNING, PENDING]
    clock.now_s = 61.0
    assert states(places, pod("a")) == [RUNNING, REFUSED]


def test_a_worker_without_a_job_that_would_make_its_pod_has_ended(places: Places) -> None:
    assert states(places, jobs=[]) == [FAILED, FAILED]
    places.renew(WORKERS[0])
    broken = job(is_replacing=False, failure="BackoffLimitExceeded: too often")
    found = places.statuses(Observed(pods=[], jobs=[broken]), {})
    assert found["w0"].detail == "BackoffLimitExceeded: too often"


def test_a_gang_is_as_the_worst_of_its_pods(clock: Clock) -> None:
    places = Places({Patience.FOR_A_NODE: 60.0}, clock)
    places.renew(GANG)
    hosts = {"g0": "run-g0-0-0"}
    assert states(places, gang_pod("a"), jobs=[gang_job()], hosts=hosts) == [PENDING]
    waiting = gang_pod("b", "Unschedulable")
    assert states(places, gang_pod("a"), waiting, jobs=[gang_job()], hosts=hosts) == [PENDING]
    assert states(places, gang_pod("a"), gang_pod("b"), jobs=[gang_job()], hosts=hosts) == [RUNNING]
    assert states(places, gang_pod("a"), gang_pod("b", "Error"), jobs=[gang_job()], hosts=hosts) == [FAILED]
    places.renew(GANG)
    new = [gang_pod("c", of="run-g0-1"), gang_pod("d", of="run-g0-1")]
    jobs = [gang_job(is_replacing=False, failure="x"), gang_job("run-g0-1")]
    assert states(places, gang_pod("b", "Error"), *new, jobs=jobs, hosts=hosts) == [RUNNING]


def names(observed: Observed, *workers: Any) -> list[tuple[str, int]]:
    jobs = missing_jobs(OPTIONS, workers, observed, None)
    prefix = f"{RunNames('run').base}-"
    return [(job["metadata"]["name"].removeprefix(prefix), job["spec"]["parallelism"]) for job in jobs]


def test_every_pool_and_every_gang_gets_a_job(places: Places) -> None:
    first = names(NOTHING, *WORKERS, worker(worker="w2", pool="p9"), GANG)
    assert first == [("p0-0", 2), ("p9-0", 1), ("g0-0", 2)]


@pytest.mark.parametrize(
    ("observed", "missing"),
    [
        (Observed(pods=[], jobs=[job()]), []),
        (Observed(pods=[pod("a", "Error"), pod("b")], jobs=[job()]), []),
        (Observed(pods=[pod("a", "Completed"), pod("b")], jobs=[job()]), [("p0-1", 1)]),
        (Observed(pods=[pod("b")], jobs=[job(is_replacing=False)]), [("p0-1", 1)]),
        (Observed(pods=[], jobs=[job(is_replacing=False), job("run-p0-7", parallelism=1)]), [("p0-8", 1)]),
        (Observed(pods=[], jobs=[job(parallelism=1)]), [("p0-1", 1)]),
    ],
)
def test_jobs_are_made_for_those_whom_no_living_one_places(
    observed: Observed, missing: list[tuple[str, int]]
) -> None:
    assert names(observed, *WORKERS) == missing


def test_a_broken_gang_gets_a_new_job() -> None:
    whole = Observed(pods=[gang_pod("a")], jobs=[gang_job()])
    broken = Observed(pods=[gang_pod("a", "Error")], jobs=[gang_job()])
    assert names(whole, GANG) == []
    assert names(broken, GANG) == [("g0-1", 2)]


def test_output_is_kept_once_and_by_worker(tmp_path: Path) -> None:
    folders = {name: tmp_path / name for name in ("w0", "w1")}
    output = WorkerOutput()
    lines = [("a", "one"), ("b", "eins"), ("a", "two")]
    output.keep(lines[:2], folders, {"a": "w1", "b": "w0"})
    output.keep(lines, folders, {"a": "w1", "b": "w0"})
    output.keep([("c", "three")], folders, {"c": "w1"})
    assert (folders["w0"] / "output.log").read_text() == "eins\n"
    assert (folders["w1"] / "output.log").read_text() == "one\ntwo\nthree\n"
