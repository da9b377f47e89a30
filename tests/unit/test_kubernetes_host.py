import contextlib
import io
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Any

import pytest
from support.workers import worker

from aibench.api.host import HostState, MasterOrder
from aibench.errors import LauncherError
from launchers.kubernetes import KubernetesLauncher
from launchers.kubernetes_commands import Kubectl
from launchers.kubernetes_host import KubernetesHost
from launchers.kubernetes_manifest import OWNER_VARIABLE
from launchers.kubernetes_options import KubernetesOptions, Results
from launchers.kubernetes_pod import END_MARK

REFERENCE = "ns/aibench-run-1"
JOB = {"kind": "Job", "metadata": {"name": "m"}, "spec": {}, "status": {}}


def pod(age_s: float = 0.0, phase: str = "Running", **state: Any) -> dict[str, Any]:
    created = datetime.now(UTC) - timedelta(seconds=age_s)
    container = {"name": "aibench", "state": state, "restartCount": 0}
    metadata = {"name": "m-1", "uid": "u", "creationTimestamp": created.strftime("%Y-%m-%dT%H:%M:%SZ")}
    return {"kind": "Pod", "metadata": metadata, "status": {"phase": phase, "containerStatuses": [container]}}


RUNNING = pod(running={})
ENDED = pod(terminated={"exitCode": 0, "reason": "Completed", "message": "the master ended with status 1"})
BROKEN = pod(terminated={"exitCode": 1})
WITHOUT_IMAGE = {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off"}}


class FakeKubectl(Kubectl):
    """A cluster with given objects; notes what it is asked to change."""

    def __init__(self, *items: Mapping[str, Any]) -> None:
        super().__init__(context=None, namespace="ns")
        self.items = list(items)
        self.changes: list[str] = []
        self.archive = b""
        self.lines: list[list[str]] = []
        self.refuses_on_create = 0

    def get(self, kinds: str, *selectors: str) -> list[Mapping[str, Any]]:
        return [item for item in self.items if f"{item['kind'].lower()}s" in kinds]

    def create(self, manifests: Sequence[Mapping[str, Any]]) -> str:
        self.refuses_on_create -= 1
        if self.refuses_on_create == 0:
            raise LauncherError("kubectl: refused")
        self.changes += [f"create {manifest['kind']}" for manifest in manifests]
        return "uid"

    def delete(self, kinds: str, *selectors: str, force: bool = False) -> None:
        self.changes.append(f"delete {','.join(selectors)}")
        self.items.clear()

    def delete_named(self, kind: str, name: str) -> None:
        self.changes.append(f"delete {kind}")

    def run_in(self, pod: str, container: str, program: Sequence[str]) -> None:
        self.changes.append(f"{program[3]} in {container}")

    def follow(self, pod: str, container: str) -> Iterator[str]:
        yield from self.lines.pop(0)
        if not self.lines:
            self.items[:] = [JOB, ENDED]
            self.lines = [["one", "two", "three"]]

    @contextlib.contextmanager
    def reading_from(self, pod: str, container: str, program: Sequence[str]) -> Iterator[IO[bytes]]:
        yield io.BytesIO(self.archive)


def host(kubectl: FakeKubectl, **changes: Any) -> KubernetesHost:
    return KubernetesHost(KubernetesOptions(image="aibench:cpu", **changes), kubectl)


def archive(*names: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as made:
        for name in names:
            made.addfile(tarfile.TarInfo(name))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("items", "state", "detail"),
    [
        ([], HostState.ENDED, "nothing of it is there"),
        ([JOB], HostState.PENDING, "no pod yet"),
        ([JOB, pod(phase="Pending")], HostState.PENDING, "Pending"),
        ([JOB, RUNNING], HostState.RUNNING, "Running"),
        ([JOB, ENDED], HostState.ENDED, "Completed: the master ended with status 1"),
        (
            [JOB, BROKEN],
            HostState.RUNNING,
            "to be replaced after Error: exit status 1",
        ),
    ],
)
def test_a_master_is_as_its_newest_pod(items: list[Any], state: HostState, detail: str) -> None:
    status = host(FakeKubectl(*items)).status(REFERENCE)
    assert (status.state, status.detail) == (state, detail)


@pytest.mark.parametrize(("age_s", "state"), [(5, HostState.PENDING), (600, HostState.REFUSED)])
def test_an_image_that_cannot_be_had_is_waited_for_and_then_refused(age_s: float, state: HostState) -> None:
    status = host(FakeKubectl(JOB, pod(age_s, "Pending", **WITHOUT_IMAGE))).status(REFERENCE)
    assert (status.state, status.detail) == (state, "ImagePullBackOff: Back-off")


def test_a_failed_job_is_the_end() -> None:
    condition = {"type": "Failed", "status": "True", "reason": "DeadlineExceeded", "message": "too long"}
    status = host(FakeKubectl({**JOB, "status": {"conditions": [condition]}})).status(REFERENCE)
    assert (status.state, status.detail) == (HostState.ENDED, "DeadlineExceeded: too long")


def test_output_is_said_once_over_lost_connections(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("launchers.kubernetes_host.POLL_S", 0)
    kubectl = FakeKubectl(JOB, RUNNING)
    kubectl.lines = [["one"], ["one", "two"]]
    assert list(host(kubectl).logs(REFERENCE, tmp_path)) == ["one", "two", "three"]


def test_cancelling_asks_a_running_master_deletes_a_waiting_one_and_lets_an_ended_one_be() -> None:
    running, waiting, ended = FakeKubectl(JOB, RUNNING), FakeKubectl(JOB), FakeKubectl(JOB, ENDED)
    for kubectl in (running, waiting, ended):
        host(kubectl).cancel(REFERENCE)
    assert running.changes == ["cancel in aibench"]
    assert waiting.changes == ["delete app.kubernetes.io/instance=aibench-run-1"]
    assert ended.changes == []


def test_results_of_a_running_master_are_copied_and_nothing_is_removed(tmp_path: Path) -> None:
    kubectl = FakeKubectl(JOB, RUNNING)
    kubectl.archive = archive("journal.jsonl", END_MARK)
    host(kubectl).fetch(REFERENCE, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["journal.jsonl"]
    assert kubectl.changes == []


def test_results_of_an_ended_master_are_copied_before_everything_is_removed(tmp_path: Path) -> None:
    kubectl = FakeKubectl(JOB, ENDED)
    kubectl.archive = archive("journal.jsonl", END_MARK)
    host(kubectl).fetch(REFERENCE, tmp_path)
    assert (tmp_path / "journal.jsonl").exists()
    assert kubectl.changes == ["remove in results", "delete app.kubernetes.io/instance=aibench-run-1"]


def test_nothing_is_removed_when_results_came_in_part(tmp_path: Path) -> None:
    kubectl = FakeKubectl(JOB, ENDED)
    kubectl.archive = archive("journal.jsonl")
    with pytest.raises(LauncherError, match="came in part only"):
        host(kubectl).fetch(REFERENCE, tmp_path)
    assert kubectl.changes == []


def test_a_master_whose_company_is_refused_leaves_nothing(tmp_path: Path) -> None:
    kubectl = FakeKubectl()
    kubectl.refuses_on_create = 2
    order = MasterOrder(run="run", run_dir=tmp_path, config="", workers=[worker()], measured_time_s=None)
    with pytest.raises(LauncherError, match="refused"):
        host(kubectl).submit(order)
    assert [change.partition(" ")[0] for change in kubectl.changes] == ["create", "delete"]


def test_a_new_submission_clears_away_an_ended_master_of_the_run_and_no_other(tmp_path: Path) -> None:
    order = MasterOrder(run="run", run_dir=tmp_path, config="", workers=[worker()], measured_time_s=None)
    ended, running = FakeKubectl(JOB, ENDED), FakeKubectl(JOB, RUNNING)
    host(ended).submit(order)
    assert [change.partition(" ")[0] for change in ended.changes] == ["delete", "create", "create", "create"]
    with pytest.raises(LauncherError, match="its master is there already"):
        host(running).submit(order)
    assert running.changes == []


def test_a_journal_that_is_only_here_cannot_be_gone_on_with_there(tmp_path: Path) -> None:
    (tmp_path / "journal.jsonl").touch()
    order = MasterOrder(run="run", run_dir=tmp_path, config="", workers=[worker()], measured_time_s=None)
    with pytest.raises(LauncherError, match=r"launcher\.results\.claim"):
        host(FakeKubectl()).check(order)


@pytest.mark.parametrize(
    ("master", "in_pod", "is_submitted", "is_here"),
    [
        ("auto", False, False, False),
        ("auto", True, False, True),
        ("pod", True, False, False),
        ("pod", True, True, True),
        ("here", False, False, True),
    ],
)
def test_where_the_master_runs(
    monkeypatch: pytest.MonkeyPatch, master: Any, in_pod: bool, is_submitted: bool, is_here: bool
) -> None:
    monkeypatch.setattr("launchers.kubernetes.in_cluster", lambda: in_pod)
    if is_submitted:
        monkeypatch.setenv(OWNER_VARIABLE, "job")
    options = KubernetesOptions(image="aibench:cpu", master=master, results=Results())
    assert (KubernetesLauncher(options).host() is None) is is_here
