"""The master as a Job of one pod, asked for from outside the cluster."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar

from aibench.api.host import HostState, HostStatus, MasterOrder
from aibench.api.launcher import WorkerState
from aibench.errors import LauncherError
from launchers.kubernetes_commands import Kubectl
from launchers.kubernetes_manifest import (
    COMPONENT_LABEL,
    CONTAINER,
    MASTER,
    RESULTS_DIR,
    RUN_LABEL,
    Owner,
    RunNames,
    to_yaml,
)
from launchers.kubernetes_master import (
    FETCH,
    RESULTS_CONTAINER,
    fetch_pod,
    master_company,
    master_job,
    pod_program,
)
from launchers.kubernetes_options import KubernetesOptions, check_workers
from launchers.kubernetes_permissions import USER_PERMISSIONS, require_permissions
from launchers.kubernetes_plan import NOTHING, missing_jobs
from launchers.kubernetes_pod import unpack
from launchers.kubernetes_states import Patience, Pod, jobs_of, pods_of

CREATED = "jobs,pods,services,configmaps"
"""Kinds of what a person may see of a run; Secrets go with their owner, the master's Job."""
POLL_S = 1.0
FETCH_POD_PATIENCE_S = 120.0
REMOVE_PATIENCE_S = 60.0


class KubernetesHost:
    """Places a master in the namespace of its options. References read ``NAMESPACE/RUN``."""

    shares_files: ClassVar[bool] = False

    def __init__(self, options: KubernetesOptions, kubectl: Kubectl) -> None:
        self._options = options
        self._kubectl = kubectl

    def check(self, order: MasterOrder) -> None:
        """Refuse what the cluster would not take.

        Raises:
            LauncherError: No cluster, a missing permission, or a ServiceAccount or claim that is not there.
        """
        check_workers(self._options, order.workers)
        if self._options.results.claim is None and (order.run_dir / "journal.jsonl").exists():
            raise LauncherError(
                f"{order.run_dir}: its journal is only here, and a master in the cluster does not see it; "
                "only runs with launcher.results.claim can be resumed there"
            )
        self._kubectl.require()
        require_permissions(self._kubectl, USER_PERMISSIONS, role="aibench-user")
        self._require("serviceaccount", self._options.service_account, "launcher.service_account")
        if self._options.results.claim is not None:
            self._require("persistentvolumeclaim", self._options.results.claim, "launcher.results.claim")

    def render(self, order: MasterOrder) -> str:
        """The master's objects, then the Jobs that it will create for its workers."""
        owner = Owner(name=RunNames(order.run).master, uid="(given by the cluster)")
        company = master_company(self._options, order.run, order.config, owner)
        jobs = missing_jobs(self._options, order.workers, NOTHING, owner)
        return to_yaml([master_job(self._options, order.run), *company, *jobs])

    def submit(self, order: MasterOrder) -> str:
        """Create the master's Job, and what belongs to it.

        Raises:
            LauncherError: The cluster refused, or the run's master is there already.
        """
        names = RunNames(order.run)
        self._clear_away(names.base)
        uid = self._kubectl.create([master_job(self._options, order.run)])
        owner = Owner(name=names.master, uid=uid)
        try:
            self._kubectl.create(master_company(self._options, order.run, order.config, owner))
        except LauncherError:
            self._remove(names.base)
            raise
        return f"{self._kubectl.namespace()}/{names.base}"

    def status(self, reference: str) -> HostStatus:
        """Ask for the master's Job and pods.

        Raises:
            LauncherError: The cluster did not answer.
        """
        items = self._kubectl.get("jobs,pods", *_selectors(reference, MASTER))
        jobs, pods = jobs_of(items), pods_of(items)
        if not jobs and not pods:
            return HostStatus(state=HostState.ENDED, detail="nothing of it is there")
        if failure := next((job.failure for job in jobs if job.failure), ""):
            return HostStatus(state=HostState.ENDED, detail=failure)
        if not pods:
            return HostStatus(state=HostState.PENDING, detail="no pod yet")
        return self._judged(pods[-1])

    def logs(self, reference: str, run_dir: Path) -> Iterator[str]:
        """What the master prints, over replacements of its pod, until it ends."""
        num_said: dict[str, int] = {}
        while True:
            status, pod = self.status(reference), self._newest_pod(reference)
            if pod is not None and status.state in (HostState.RUNNING, HostState.ENDED):
                for number, line in enumerate(self._kubectl.follow(pod.name, CONTAINER), 1):
                    # A connection that was cut off begins anew with the first line.
                    if number > num_said.get(pod.started, 0):
                        num_said[pod.started] = number
                        yield line
            if status.state.is_terminal:
                return
            time.sleep(POLL_S)

    def cancel(self, reference: str) -> None:
        """Ask the master to seal its run; of one that has not begun, delete the Job.

        Raises:
            LauncherError: The cluster did not answer.
        """
        status, pod = self.status(reference), self._newest_pod(reference)
        if status.state is HostState.RUNNING and pod is not None:
            self._kubectl.run_in(pod.name, CONTAINER, pod_program(self._options, "cancel"))
        elif not status.state.is_terminal:
            self._remove(_run_base(reference))

    def fetch(self, reference: str, run_dir: Path) -> None:
        """Copy the results; of a master that has ended, remove everything.

        Raises:
            LauncherError: They cannot be had; nothing is removed then.
        """
        status = self.status(reference)
        base = _run_base(reference)
        source = RESULTS_DIR / base
        if status.state in (HostState.RUNNING, HostState.ENDED):
            with self._results_pod(reference) as place:
                if place is not None:
                    self._copy(place, source, run_dir)
                    if status.state is HostState.ENDED:
                        self._kubectl.run_in(*place, pod_program(self._options, "remove", str(source)))
        if status.state.is_terminal:
            self._remove(base)

    def _clear_away(self, base: str) -> None:
        """Remove what an ended master of the same run left; its folder on the claim stays."""
        if self._kubectl.get(CREATED, f"{RUN_LABEL}={base}"):
            status = self.status(base)
            if not status.state.is_terminal:
                raise LauncherError(f"{base}: its master is there already ({status.state}: {status.detail})")
            self._remove(base)

    def _copy(self, place: tuple[str, str], source: Path, run_dir: Path) -> None:
        try:
            with self._kubectl.reading_from(
                *place, pod_program(self._options, "pack", str(source))
            ) as stream:
                is_whole = unpack(stream, run_dir)
        except OSError as error:
            raise LauncherError(f"{run_dir}: the results cannot be written ({error})") from error
        if not is_whole:
            raise LauncherError(f"the results of {source.name} came in part only; fetch them again")

    @contextlib.contextmanager
    def _results_pod(self, reference: str) -> Iterator[tuple[str, str] | None]:
        """A pod and its container that see the results: the master's or, on a claim, one made for this."""
        pod = self._newest_pod(reference)
        if pod is not None and pod.phase == "Running":
            yield pod.name, RESULTS_CONTAINER
        elif self._options.results.claim is None:
            yield None
        else:
            base = _run_base(reference)
            self._kubectl.delete_named("pod", f"{base}-{FETCH}")
            self._kubectl.create([fetch_pod(self._options, base)])
            try:
                self._await_running(reference)
                yield f"{base}-{FETCH}", CONTAINER
            finally:
                self._kubectl.delete_named("pod", f"{base}-{FETCH}")

    def _await_running(self, reference: str) -> None:
        deadline_s = time.monotonic() + FETCH_POD_PATIENCE_S
        said = "no pod yet"
        while time.monotonic() < deadline_s:
            for pod in pods_of(self._kubectl.get("pods", *_selectors(reference, FETCH))):
                if pod.meaning.state is WorkerState.RUNNING:
                    return
                said = pod.detail
            time.sleep(POLL_S)
        raise LauncherError(f"the pod that fetches the results of {reference} does not run: {said}")

    def _remove(self, base: str) -> None:
        """Delete everything of the run, and wait until nothing is left of it."""
        selector = f"{RUN_LABEL}={base}"
        self._kubectl.delete(CREATED, selector)
        deadline_s = time.monotonic() + REMOVE_PATIENCE_S
        while left := self._kubectl.get(CREATED, selector):
            if time.monotonic() > deadline_s:
                names = ", ".join(f"{item['kind']} {item['metadata']['name']}" for item in left)
                raise LauncherError(f"not removed within {REMOVE_PATIENCE_S:g} s: {names}")
            time.sleep(POLL_S)

    def _judged(self, pod: Pod) -> HostStatus:
        meaning = pod.meaning
        if meaning.state is WorkerState.RUNNING:
            return HostStatus(state=HostState.RUNNING, detail=pod.detail)
        if meaning.state is WorkerState.EXITED:
            return HostStatus(state=HostState.ENDED, detail=pod.detail)
        if meaning.state is WorkerState.FAILED:
            return HostStatus(state=HostState.RUNNING, detail=f"to be replaced after {pod.detail}")
        limit_s = self._limits_s.get(meaning.patience)
        if limit_s is not None and _age_s(pod) >= limit_s:
            return HostStatus(state=HostState.REFUSED, detail=pod.detail)
        return HostStatus(state=HostState.PENDING, detail=pod.detail)

    @property
    def _limits_s(self) -> dict[Patience, float]:
        return {
            Patience.NONE: 0.0,
            Patience.FOR_A_NODE: self._options.schedule_timeout_s,
            Patience.FOR_AN_IMAGE: self._options.image_timeout_s,
        }

    def _newest_pod(self, reference: str) -> Pod | None:
        pods = pods_of(self._kubectl.get("pods", *_selectors(reference, MASTER)))
        return pods[-1] if pods else None

    def _require(self, kind: str, name: str, key: str) -> None:
        if not self._kubectl.exists(kind, name):
            raise LauncherError(
                f"{key}: namespace {self._kubectl.namespace()} has no {kind} {name!r} "
                "(kubectl apply -k k8s/base makes the default ones)"
            )


def _run_base(reference: str) -> str:
    return reference.rpartition("/")[2]


def _selectors(reference: str, component: str) -> tuple[str, str]:
    return f"{RUN_LABEL}={_run_base(reference)}", f"{COMPONENT_LABEL}={component}"


def _age_s(pod: Pod) -> float:
    return (datetime.now(UTC) - datetime.fromisoformat(pod.created)).total_seconds()
