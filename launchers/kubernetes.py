"""Workers as pods of a Kubernetes cluster (1.20 or later), placed by Jobs.

The workers of a pool are the pods of one work-queue Job: alike, without names of ours; each asks the master
which worker to be. The Job replaces a pod that fails or is deleted, and this launcher only tells of whom. A
worker over several nodes is an Indexed Job of its own (1.21 or later, with cluster DNS).
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar
from urllib.parse import urlsplit, urlunsplit

import msgspec

from aibench.api.host import Host
from aibench.api.launcher import Rendered, WorkerSpec, WorkerStatus
from aibench.api.network import source_address
from aibench.api.protocol import ControlAddress
from aibench.api.stage import Say, StageOrder
from aibench.errors import LauncherError
from launchers.kubernetes_commands import Kubectl, in_cluster
from launchers.kubernetes_host import KubernetesHost
from launchers.kubernetes_logs import WorkerOutput
from launchers.kubernetes_manifest import (
    COMPONENT_LABEL,
    OWNER_UID_VARIABLE,
    OWNER_VARIABLE,
    POD_IP_VARIABLE,
    RUN_LABEL,
    SERVICE_VARIABLE,
    WORKER,
    Manifest,
    Owner,
    RunNames,
    control_secret,
    gang_service,
    to_yaml,
)
from launchers.kubernetes_options import KubernetesOptions, check_workers
from launchers.kubernetes_permissions import MASTER_PERMISSIONS, require_permissions
from launchers.kubernetes_places import Observed, Places
from launchers.kubernetes_plan import NOTHING, missing_jobs
from launchers.kubernetes_stage import check_mounts, with_staging
from launchers.kubernetes_states import Patience, jobs_of, pods_of

logger = logging.getLogger(__name__)

STOP_PATIENCE_S = 60.0
"""How long pods may take to end before they are forgotten by force, as those of a dead node must be."""
STOP_POLL_S = 0.5


class KubernetesLauncher:
    """Places workers in one namespace, from outside the cluster or from a pod in it."""

    name: ClassVar[str] = "kubernetes"
    options_type: ClassVar[type[msgspec.Struct]] = KubernetesOptions
    poll_period_s: ClassVar[float] = 5.0

    def __init__(self, options: msgspec.Struct) -> None:
        assert isinstance(options, KubernetesOptions)
        self._options = options
        self._kubectl = Kubectl(
            context=options.context, namespace=None if _is_submitted() else options.namespace
        )
        self._places = Places(
            {
                Patience.NONE: 0.0,
                Patience.FOR_A_NODE: options.schedule_timeout_s,
                Patience.FOR_AN_IMAGE: options.image_timeout_s,
            }
        )
        self._run: str | None = None
        self._parcels: list[StageOrder] = []
        self._output = WorkerOutput()

    def host(self) -> Host | None:
        """A pod, unless this is one already or the options say otherwise."""
        is_here = self._options.master == "here" or (self._options.master == "auto" and in_cluster())
        return None if is_here or _is_submitted() else KubernetesHost(self._options, self._kubectl)

    def control_host(self) -> str:
        """This pod's address or, outside, that from which the API server is reached.

        Raises:
            LauncherError: The API server is on this machine, or has no address.
        """
        if own := os.environ.get(POD_IP_VARIABLE):
            return own
        server = os.environ.get("KUBERNETES_SERVICE_HOST") or urlsplit(self._kubectl.server()).hostname
        with contextlib.suppress(OSError):
            own = source_address(server) if server else None
        if own is None or own.startswith("127."):
            raise LauncherError(
                "the address at which pods reach this machine cannot be told; "
                "set control.host, or leave the master to the cluster (launcher.master: pod)"
            )
        return own

    def check(self, workers: Sequence[WorkerSpec]) -> None:
        """Refuse devices of unknown names, an unreachable cluster and missing permissions.

        Raises:
            LauncherError: Any of these.
        """
        check_workers(self._options, workers)
        self._kubectl.require()
        require_permissions(self._kubectl, MASTER_PERMISSIONS, role="aibench-master")

    def stage(self, order: StageOrder, workers: Sequence[WorkerSpec], say: Say) -> None:
        """Have every worker's pod unpack the parcel on its node before it starts, unless it is there.

        Raises:
            LauncherError: The pods do not see where it lies, or where it shall go.
        """
        check_mounts(order, self._options)
        self._parcels.append(order)
        say(f"{order.parcel.name}: pods bring it to their nodes as they start, see their init containers")

    def render(self, workers: Sequence[WorkerSpec]) -> Sequence[Rendered]:
        """The workers' Jobs; the Secret with the master's address is not shown."""
        jobs = self._staged(missing_jobs(self._options, workers, NOTHING, _owner()))
        return [Rendered(name=job["metadata"]["name"], text=to_yaml([job])) for job in jobs]

    def start(self, workers: Sequence[WorkerSpec]) -> None:
        """Make Jobs for what the living ones do not place.

        Raises:
            LauncherError: The cluster refused.
        """
        observed = self._look(workers[0].run)
        if self._run is None:
            self._run = workers[0].run
            self._places.settle(observed)
            self._tell_address(workers[0].control_file, is_resumed=bool(observed.pods))
            if any(worker.num_nodes > 1 for worker in workers):
                self._kubectl.apply_unread(gang_service(self._run, _owner()))
        was_ended = [self._places.renew(worker) for worker in workers]
        if any(was_ended):
            self._keep_logs()
        if missing := missing_jobs(self._options, self._places.wanted, observed, _owner()):
            self._kubectl.create(self._staged(missing))

    def states(self, hosts: Mapping[str, str]) -> Mapping[str, WorkerStatus]:
        """State of every worker, from one question for the run's pods and Jobs.

        Raises:
            LauncherError: The cluster did not answer.
        """
        if self._run is None:
            return {}
        return self._places.statuses(self._look(self._run), hosts)

    def stop(self) -> None:
        """Keep the pods' output, delete the run's Jobs, pods and Secret, and wait until no pod is left.

        Raises:
            LauncherError: The cluster did not answer, or pods are left.
        """
        if self._run is None:
            return
        self._keep_logs()
        self._kubectl.delete("jobs,pods", *_selectors(self._run))
        self._kubectl.delete_named("secret", RunNames(self._run).control)
        if any(worker.num_nodes > 1 for worker in self._places.workers):
            self._kubectl.delete_named("service", RunNames(self._run).gangs)
        self._await_end(self._run)
        self._run = None
        self._places.clear()

    def _staged(self, jobs: Sequence[Manifest]) -> list[Manifest]:
        return [with_staging(job, self._parcels, self._options) for job in jobs]

    def _look(self, run: str) -> Observed:
        items = self._kubectl.get("jobs,pods", *_selectors(run))
        return Observed(pods=pods_of(items), jobs=jobs_of(items))

    def _await_end(self, run: str) -> None:
        """Wait for the end of all pods; forget by force those that take too long."""
        for is_forced in (False, True):
            deadline_s = time.monotonic() + STOP_PATIENCE_S
            while time.monotonic() < deadline_s:
                if not self._look(run).pods:
                    return
                time.sleep(STOP_POLL_S)
            if not is_forced:
                logger.warning("pods of %s do not end: removed by force", run)
                self._kubectl.delete("jobs,pods", *_selectors(run), force=True)
        raise LauncherError(f"pods of {run} are left (kubectl get pods --selector {_selectors(run)[0]})")

    def _tell_address(self, control_file: Path, *, is_resumed: bool) -> None:
        """Hand the control file to the pods, by the name that they know the master by."""
        try:
            address = msgspec.json.decode(control_file.read_bytes(), type=ControlAddress)
        except (OSError, msgspec.MsgspecError) as error:
            raise LauncherError(f"{control_file}: cannot be read ({error})") from error
        text = msgspec.json.encode(self._named(address)).decode()
        assert self._run is not None
        self._kubectl.apply_unread(control_secret(self._run, text, _owner()))
        if is_resumed:
            # Nodes renew mounted secrets once a minute or, if told of a change of the pod, at once.
            digest = hashlib.sha256(text.encode()).hexdigest()[:16]
            self._kubectl.annotate_pods(",".join(_selectors(self._run)), f"aibench/control={digest}")

    def _named(self, address: ControlAddress) -> ControlAddress:
        """The address by the Service's name, which stays when the pod is replaced."""
        service = os.environ.get(SERVICE_VARIABLE)
        if self._options.address != "service" or service is None:
            return address
        name = f"{service}.{self._kubectl.namespace()}.svc"
        parts = urlsplit(address.url)
        url = urlunsplit(parts._replace(netloc=f"{name}:{parts.port}"))
        return ControlAddress(url=url, token=address.token)

    def _keep_logs(self) -> None:
        """Append what pods have said since the last time to the logs of their workers."""
        assert self._run is not None
        folders = {worker.worker: worker.log_dir for worker in self._places.workers}
        lines = self._kubectl.logs(",".join(_selectors(self._run)))
        try:
            self._output.keep(lines, folders, self._places.workers_of_pods)
        except (LauncherError, OSError) as error:
            logger.warning("output of workers was not kept: %s", error)


def _selectors(run: str) -> tuple[str, str]:
    return f"{RUN_LABEL}={RunNames(run).base}", f"{COMPONENT_LABEL}={WORKER}"


def _is_submitted() -> bool:
    """Whether this is the pod of a master that `KubernetesHost` placed."""
    return OWNER_VARIABLE in os.environ


def _owner() -> Owner | None:
    if not _is_submitted():
        return None
    return Owner(name=os.environ[OWNER_VARIABLE], uid=os.environ[OWNER_UID_VARIABLE])
