import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.kubernetes import IMAGE, REPOSITORY, apply, host_mounts, kubectl, names, objects

from aibench.journal import read_journal
from aibench.score.history import RunHistory

WAIT_S = 240.0
AIBENCH = [sys.executable, "-m", "aibench"]
OURS = "app.kubernetes.io/name=aibench"
CLAIM = "aibench-results"

SHORT: dict[str, Any] = {
    "name": "short",
    "division": "smoke",
    "workload": {"name": "image_classification", "data": "digits", "initial": "resnet18", "width": 4},
    "workers": [{"count": 2, "ranks": 1, "device": "cpu", "oversubscribe": True}],
    "limits": {"trials": 4, "measured_time_s": 150},
    "epochs": {"warmup": [3], "full": 4},
    "search": {"max_morphs": 1, "max_ops_ratio": 1.5, "space": {"kernel_size": {"choices": [3]}}},
    "control": {"heartbeat_s": 0.5, "lease_s": 30},
}


@pytest.fixture(scope="session", autouse=True)
def cluster() -> None:
    try:
        nodes = kubectl("get", "nodes", "--output", "name")
    except (AssertionError, OSError, subprocess.SubprocessError) as error:
        nodes = str(error)
    if "node/" not in nodes:
        up = REPOSITORY / "k8s" / "dev-cluster" / "up"
        pytest.fail(f'no Kubernetes answers here ({nodes.strip()}); start one: eval "$({up})"', pytrace=False)


@pytest.fixture
def namespace(cluster: None) -> Iterator[str]:
    name = f"test-{uuid.uuid4().hex[:8]}"
    kubectl("create", "namespace", name)
    yield name
    kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder that the users of all pods may write, unlike pytest's own."""
    with tempfile.TemporaryDirectory(prefix="aibench-test-", dir="/var/tmp") as folder:
        Path(folder).chmod(0o777)
        yield Path(folder)


@pytest.fixture
def base(namespace: str) -> str:
    """The namespace with what an administrator applies once."""
    kubectl("apply", "--namespace", namespace, "--kustomize", str(REPOSITORY / "k8s" / "dev-cluster"))
    return namespace


@pytest.fixture
def person(base: str, tmp_path: Path) -> Path:
    """A kubeconfig of somebody who may do what the base's Role for people grants, and no more."""
    config = json.loads(kubectl("config", "view", "--raw", "--minify", "--output", "json"))
    config["users"][0]["user"]["as"] = "person"
    binding = ["rolebinding", "person", "--role", "aibench-user", "--user", "person"]
    kubectl("create", *binding, "--namespace", base)
    path = tmp_path / "kubeconfig"
    path.write_text(json.dumps(config))
    path.chmod(0o600)
    return path


@pytest.fixture
def claim(base: str, shared: Path) -> Iterator[str]:
    """The base's claim, bound to a folder of this machine; its name."""
    volume = f"{base}-results"
    apply(
        {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": volume},
            "spec": {
                "capacity": {"storage": "100Gi"},
                "accessModes": ["ReadWriteMany"],
                "hostPath": {"path": str(shared)},
                "claimRef": {"namespace": base, "name": CLAIM},
            },
        }
    )
    yield CLAIM
    kubectl("delete", "persistentvolume", volume, "--wait=false")


class Run:
    """A run that is asked for on this machine by the real command line."""

    def __init__(
        self, folder: Path, namespace: str, person: Path, options: dict[str, Any], changes: dict[str, Any]
    ) -> None:
        self.root = folder / "run"
        self.namespace = namespace
        self.environment = {**os.environ, "KUBECONFIG": str(person)}
        self.config = folder / "config.yaml"
        self.options = {
            "name": "kubernetes",
            "namespace": namespace,
            "image": IMAGE,
            "python": sys.executable,
            "address": "pod_ip",
            "pod_patch": host_mounts(),
            **options,
        }
        self.config.write_text(yaml.safe_dump({**SHORT, "launcher": self.options, **changes}))
        self.process: subprocess.Popen[str] | None = None

    def start(self, *more: str) -> None:
        self.process = subprocess.Popen(
            [*AIBENCH, "run", str(self.config), "--out", str(self.root), *more],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=self.environment,
        )

    def detach(self) -> None:
        done = subprocess.run(
            [*AIBENCH, "run", str(self.config), "--out", str(self.root), "--detach"],
            capture_output=True,
            text=True,
            timeout=WAIT_S,
            check=False,
            env=self.environment,
        )
        assert done.returncode == 0, done.stderr

    def finish(self) -> tuple[int, str]:
        assert self.process is not None
        output, _ = self.process.communicate(timeout=WAIT_S)
        return self.process.returncode, output

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def ask(self, command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Another command about the run."""
        return subprocess.run(
            [*AIBENCH, command, str(self.root), *arguments],
            capture_output=True,
            text=True,
            timeout=WAIT_S,
            check=False,
            env=self.environment,
        )

    def state(self) -> str:
        """The engine's word for its master."""
        asked = self.ask("status", "--json")
        assert asked.returncode == 0, asked.stderr
        return str(json.loads(asked.stdout)["state"])

    def pods(self, component: str) -> list[str]:
        """Names of its living pods of one kind."""
        selector = f"{OURS},app.kubernetes.io/component={component}"
        pods = objects("pods", self.namespace, selector)
        return [p["metadata"]["name"] for p in pods if p["status"]["phase"] == "Running"]

    def left(self) -> list[str]:
        """What is left of it in the cluster; Secrets and pods go after their owner."""
        kinds = "jobs,pods,services,configmaps,secrets"
        deadline = time.monotonic() + WAIT_S
        while names(kinds, self.namespace, OURS) and time.monotonic() < deadline:
            time.sleep(1)
        return names(kinds, self.namespace, OURS)

    def records(self, folder: Path | None = None) -> list[dict[str, Any]]:
        path = (folder or self.root) / "journal.jsonl"
        complete = path.read_text().rpartition("\n")[0] if path.exists() else ""
        return [json.loads(line) for line in complete.splitlines()]

    def events(self, kind: str, folder: Path | None = None) -> list[dict[str, Any]]:
        events = [record["event"] for record in self.records(folder)]
        return [event for event in events if event["event"] == kind]

    def wait_until(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + WAIT_S
        while not condition():
            assert self.process is None or self.process.poll() is None, self.finish()[1]
            assert time.monotonic() < deadline, f"no {what} in time"
            time.sleep(0.5)

    def check(self) -> RunHistory:
        """The run at home: sealed, valid, no epoch counted twice."""
        history = RunHistory.of(read_journal(self.root / "journal.jsonl").require_intact())
        assert history.ended is not None
        keys = [(event["trial"], event["result"]["epoch"]) for event in self.events("epoch_finished")]
        assert keys
        assert len(keys) == len(set(keys))
        verified = self.ask("verify")
        assert verified.returncode == 0, verified.stdout
        return history

    def clean_up(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.communicate()


@pytest.fixture
def make_run(base: str, person: Path, tmp_path: Path) -> Iterator[Callable[..., Run]]:
    runs: list[Run] = []

    def make(options: dict[str, Any] | None = None, **changes: Any) -> Run:
        runs.append(Run(tmp_path, base, person, options or {}, changes))
        return runs[-1]

    yield make
    for run in runs:
        run.clean_up()
