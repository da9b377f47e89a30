from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.kubernetes import kubectl, objects

pytestmark = pytest.mark.kubernetes


def folder_on_claim(shared: Path) -> Path:
    """The run folder as the master sees it."""
    found = list(shared.glob("aibench-*"))
    return found[0] if found else shared / "none"


def test_a_run_survives_the_loss_of_a_worker_a_node_without_room_and_the_loss_of_its_master(
    make_run: Callable[..., Any], claim: str, shared: Path
) -> None:
    run = make_run(
        {"results": {"claim": claim}},
        limits={"measured_time_s": 900},
        # Longer than a busy node takes to show the workers the new master's address.
        control={"heartbeat_s": 0.5, "lease_s": 120},
    )
    run.detach()
    node = objects("nodes", run.namespace)[0]["metadata"]["name"]

    def events(kind: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = run.events(kind, folder_on_claim(shared))
        return found

    run.wait_until(lambda: len(events("epoch_finished")) >= 2, "epochs")
    kubectl("cordon", node)
    try:
        victim = {event["worker"]: event["host"] for event in events("worker_joined")}["w0"]
        kubectl("delete", "pod", victim, "--namespace", run.namespace)
        run.wait_until(lambda: [e["worker"] for e in events("worker_lost")] == ["w0"], "loss of the worker")
        known = len(events("epoch_finished"))
        run.wait_until(lambda: len(events("epoch_finished")) > known, "epochs of the other worker")
        assert len(run.pods("worker")) == 1
    finally:
        kubectl("uncordon", node)
    run.wait_until(lambda: len(events("worker_joined")) == 3, "its replacement")

    before = run.records(folder_on_claim(shared))
    kubectl("delete", "pod", *run.pods("master"), "--namespace", run.namespace)
    run.wait_until(lambda: len(events("run_resumed")) == 1, "new master")
    resumed = len(events("epoch_finished"))
    run.wait_until(lambda: len(events("epoch_finished")) > resumed + 1, "epochs after it")
    assert run.records(folder_on_claim(shared))[: len(before)] == before
    assert len(events("worker_joined")) == 3, "the workers lived on"

    assert run.ask("cancel").returncode == 0
    run.wait_until(lambda: run.state() == "ended", "end")
    assert run.ask("fetch").returncode == 0
    run.check()
    assert run.left() == []
    assert list(shared.glob("aibench-*")) == [], "its folder on the claim is removed"


def test_a_worker_that_crashes_is_replaced_and_its_output_kept(make_run: Callable[..., Any]) -> None:
    run = make_run(limits={"measured_time_s": 900})
    run.detach()
    run.wait_until(lambda: len(run.pods("worker")) == 2, "workers")

    def has(kind: str, count: int) -> bool:
        run.ask("fetch")
        return len(run.events(kind)) >= count

    run.wait_until(lambda: has("epoch_finished", 1), "an epoch")
    victim = run.events("worker_joined")[0]
    end_all = "import os, signal; os.kill(-1, signal.SIGKILL); os.kill(1, signal.SIGTERM)"
    python = run.options["python"]
    kubectl("exec", victim["host"], "--namespace", run.namespace, "--", python, "-c", end_all)
    run.wait_until(lambda: has("worker_lost", 1) and has("worker_joined", 3), "its replacement")
    known = len(run.events("epoch_finished"))
    run.wait_until(lambda: has("epoch_finished", known + 2), "more epochs")
    assert (run.root / "workers" / victim["worker"] / "output.log").read_text()
    assert run.ask("cancel").returncode == 0
    run.wait_until(lambda: run.state() == "ended", "end")
    assert run.ask("fetch").returncode == 0
    run.check()
    assert run.left() == []


def test_results_on_a_claim_are_fetched_after_the_masters_pod_is_gone(
    make_run: Callable[..., Any], claim: str
) -> None:
    run = make_run({"results": {"claim": claim}, "ttl_s": 1})
    run.detach()
    run.wait_until(lambda: run.pods("master") == [] and run.state() == "ended", "end of the master's pod")
    fetched = run.ask("fetch")
    assert fetched.returncode == 0, fetched.stderr
    run.check()
    assert run.left() == []
