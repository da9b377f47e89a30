import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.kubernetes import IMAGE, apply, host_mounts, kubectl, names, objects

pytestmark = pytest.mark.kubernetes


def test_a_run_from_outside_is_followed_brings_its_results_home_and_leaves_nothing(
    make_run: Callable[..., Any],
) -> None:
    run = make_run()
    run.start()
    status, output = run.finish()
    assert status == 0, output
    assert "normalized score" in output
    run.check()
    assert {event["worker"] for event in run.events("worker_joined")} == {"w0", "w1"}
    assert (run.root / "report.html").exists()
    assert run.left() == []


def test_a_detached_run_is_asked_about_cancelled_and_fetched(make_run: Callable[..., Any]) -> None:
    run = make_run(limits={"measured_time_s": 600})
    run.detach()
    run.wait_until(lambda: run.state() == "running", "master")

    def has_epochs() -> bool:
        run.ask("fetch")
        return len(run.events("epoch_finished")) >= 2

    run.wait_until(has_epochs, "epochs")
    assert run.events("run_ended") == []
    cancelled = run.ask("cancel")
    assert cancelled.returncode == 0, cancelled.stderr
    said = run.ask("logs")
    assert "the run ended: signal" in said.stdout
    run.wait_until(lambda: run.state() == "ended", "end")
    assert run.ask("fetch").returncode == 0
    assert run.check().ended.reason == "signal"
    assert run.left() == []


def test_ctrl_c_seals_the_run_brings_it_home_and_leaves_nothing(make_run: Callable[..., Any]) -> None:
    run = make_run(limits={"measured_time_s": 600})
    run.start()
    run.wait_until(lambda: len(run.pods("worker")) == 2, "workers")
    run.signal(signal.SIGINT)
    status, output = run.finish()
    assert status == 128 + signal.SIGINT, output
    assert run.events("run_ended")[0]["reason"] == "signal"
    assert run.left() == []


def test_ctrl_c_before_the_master_runs_leaves_nothing(make_run: Callable[..., Any]) -> None:
    run = make_run({"pod_patch": {"spec": {"nodeSelector": {"no": "such"}}}})
    run.start()
    run.wait_until(lambda: names("pods", run.namespace) != [], "pod")
    run.signal(signal.SIGINT)
    status, output = run.finish()
    assert status == 2, output
    assert "before its first record" in output
    assert run.left() == []


def test_a_master_in_a_pod_of_ones_own_places_workers_with_its_account(
    make_run: Callable[..., Any], shared: Path
) -> None:
    run = make_run()
    folder = shared / "run"
    (shared / "config.yaml").write_text(run.config.read_text())
    command = [sys.executable, "-m", "aibench", "run", str(shared / "config.yaml"), "--out", str(folder)]
    container = {"name": "aibench", "image": IMAGE, "command": command}
    template = {"containers": [container], "restartPolicy": "Never", "serviceAccountName": "aibench-master"}
    patch = host_mounts(shared)["spec"]
    spec = {**template, **patch, "automountServiceAccountToken": True}
    spec["containers"] = [{**container, **patch["containers"][0]}]
    metadata = {"name": "notebook", "namespace": run.namespace}
    apply({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})

    def phase() -> str:
        return str(objects("pods", run.namespace, "!app.kubernetes.io/name")[0]["status"]["phase"])

    run.wait_until(lambda: phase() in ("Succeeded", "Failed"), "end of the pod")
    assert phase() == "Succeeded", kubectl("logs", "--namespace", run.namespace, "notebook")
    run.root = folder
    run.check()
    assert run.left() == []


def test_an_image_that_is_not_there_is_one_line_and_leaves_nothing(make_run: Callable[..., Any]) -> None:
    run = make_run({"image": "aibench:absent", "image_timeout_s": 5})
    run.start()
    status, output = run.finish()
    assert status == 2, output
    assert "aibench:absent" in output.splitlines()[-1]
    assert not run.root.exists()
    assert run.left() == []


def test_a_worker_image_that_is_not_there_ends_the_run_with_the_reason(make_run: Callable[..., Any]) -> None:
    absent = {"spec": {"containers": [{"name": "aibench", "image": IMAGE}]}}
    run = make_run({"image": "aibench:absent", "image_timeout_s": 5, "master_patch": absent})
    run.start()
    status, output = run.finish()
    assert status == 1, output
    assert run.events("run_ended")[0]["reason"] == "no_workers"
    assert "aibench:absent" in run.events("run_ended")[0]["detail"]
    assert run.left() == []


def test_a_missing_permission_is_named_and_nothing_is_created(make_run: Callable[..., Any]) -> None:
    run = make_run()
    removal = '[{"op": "replace", "path": "/rules/0/verbs", "value": ["create", "list"]}]'
    kubectl(
        "patch", "role", "aibench-user", "--namespace", run.namespace, "--type", "json", "--patch", removal
    )
    run.start()
    status, output = run.finish()
    assert status == 2, output
    assert output == (
        f"aibench: namespace {run.namespace}: this account may not delete jobs; "
        "bind it to the Role aibench-user (kubectl apply -k k8s/base)\n"
    )
    assert not run.root.exists()
    assert run.left() == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"service_account": "nobody"}, "launcher.service_account: namespace"),
        ({"results": {"claim": "none"}}, "launcher.results.claim: namespace"),
    ],
)
def test_what_is_not_there_is_named(make_run: Callable[..., Any], options: dict[str, Any], said: str) -> None:
    run = make_run(options)
    run.start()
    status, output = run.finish()
    assert status == 2, output
    assert output.startswith(f"aibench: {said} {run.namespace} has no ")


def test_a_cluster_that_is_not_there_is_one_line(make_run: Callable[..., Any], tmp_path: Path) -> None:
    run = make_run()
    run.environment = {**os.environ, "KUBECONFIG": str(tmp_path / "none")}
    run.start()
    status, output = run.finish()
    assert status == 2, output
    assert output.startswith("aibench: no cluster is configured")
    assert output.count("\n") == 1


def test_the_plan_shows_what_would_be_created_and_creates_nothing(make_run: Callable[..., Any]) -> None:
    run = make_run()
    run.start("--dry-run")
    status, output = run.finish()
    assert status == 0, output
    kinds = [document["kind"] for document in yaml.safe_load_all(_uncommented(output)) if "kind" in document]
    assert kinds == ["Job", "ConfigMap", "Service", "Job"]
    assert run.left() == []


def _uncommented(output: str) -> str:
    lines = [line.removeprefix("# ") for line in output.splitlines() if line.startswith("# ")]
    return "\n".join(lines[lines.index("apiVersion: batch/v1") :])
