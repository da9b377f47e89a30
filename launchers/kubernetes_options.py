"""What users may say of a run on Kubernetes, and what follows from it alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec

from aibench.api.launcher import CPU, WorkerSpec
from aibench.errors import ConfigError, LauncherError

DNS_LABEL = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"
QUANTITY = r"^[0-9]+(\.[0-9]+)?(k|Ki|M|Mi|G|Gi|T|Ti)?$"
RESOURCES = {"cuda": "nvidia.com/gpu", "npu": "huawei.com/Ascend910"}
"""Device types of torch whose plug-in announces them under one well-known name."""

Name = Annotated[str, msgspec.Meta(pattern=DNS_LABEL)]
Text = Annotated[str, msgspec.Meta(min_length=1)]
Quantity = Annotated[str, msgspec.Meta(pattern=QUANTITY)]
Cores = Annotated[float, msgspec.Meta(gt=0)]
Seconds = Annotated[float, msgspec.Meta(ge=1)]
WholeSeconds = Annotated[int, msgspec.Meta(ge=1)]


class _Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class Results(_Section, frozen=True):
    """Where the run folder of a master in the cluster lies.

    Attributes:
        claim: A PersistentVolumeClaim of the namespace: the folder survives its pod.
        size: Without a claim: most that the folder, which then goes with its pod, may take.
    """

    claim: Name | None = None
    size: Quantity | None = None

    def __post_init__(self) -> None:
        if self.claim is not None and self.size is not None:
            raise ValueError("give either claim or size: a claim brings its own")


class KubernetesOptions(_Section, frozen=True):
    """The keys under ``launcher:``.

    Attributes:
        image: Image with aibench, torch for the workers' devices and, for a master in the cluster, kubectl.
        namespace: None for the context's own or, in a pod, the pod's.
        context: Context of the kubeconfig; None for the current one.
        image_pull_policy: None for the cluster's rule.
        service_account: Account of a master in the cluster; workers have none.
        resource: Name under which the devices are announced; None where the device type tells.
        cpu: Cores of a pod of a worker; None for one per rank on ``cpu`` without ``oversubscribe``, else for
            no request.
        memory: Memory of a pod of a worker, such as ``64Gi``.
        pod_patch: Merged over the template of every pod (keys ``metadata`` and ``spec``), lists by name; the
            container is called ``aibench``. ``null`` takes a key out.
        master_patch: Merged over the template of the master's pod after that.
        results: Where a master in the cluster keeps the run folder.
        address: How workers find the master: by the DNS name of its ``service``, or by its ``pod_ip`` in
            clusters without DNS.
        master: Where the master runs: in a ``pod``, or ``here``; ``auto`` is here in a pod, else in one.
        python: Interpreter in the image.
        ttl_s: How long an ended master's results wait to be fetched, and what is left of it stays.
        schedule_timeout_s: How long a pod may wait for a node before its worker is given up.
        image_timeout_s: How long its image may be refused before that.
    """

    image: Text
    namespace: Name | None = None
    context: Text | None = None
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] | None = None
    service_account: Name = "aibench-master"
    resource: Text | None = None
    cpu: Cores | None = None
    memory: Quantity | None = None
    pod_patch: dict[str, Any] = {}
    master_patch: dict[str, Any] = {}
    results: Results = Results()
    address: Literal["service", "pod_ip"] = "service"
    master: Literal["auto", "pod", "here"] = "auto"
    python: Text = "python3"
    ttl_s: WholeSeconds = 86400
    schedule_timeout_s: Seconds = 3600.0
    image_timeout_s: Seconds = 60.0

    def __post_init__(self) -> None:
        for name, patch in (("pod_patch", self.pod_patch), ("master_patch", self.master_patch)):
            _check_patch(name, patch)


def _check_patch(name: str, patch: dict[str, Any]) -> None:
    for key, value in patch.items():
        if key not in ("metadata", "spec") or not isinstance(value, dict):
            raise ValueError(f"{name}: {key!r}; expected a mapping under metadata or spec")
    for key in ("hostNetwork", "hostname", "restartPolicy"):
        if key in patch.get("spec", {}):
            raise ValueError(f"{name}: spec.{key} is aibench's own: pods are told apart by their host names")


def device_resource(options: KubernetesOptions, device: str) -> str | None:
    """Name under which the devices of a worker are asked for; None for its processor.

    Raises:
        ConfigError: It cannot be told.
    """
    if device == CPU:
        return None
    name = options.resource or RESOURCES.get(device)
    if name is None:
        raise ConfigError(
            "launcher.resource",
            f"missing, and device {device!r} does not tell what the cluster calls it; expected a name such "
            f"as {RESOURCES['cuda']}, or one of {CPU}, {', '.join(RESOURCES)} as the workers' device",
        )
    return name


def check_workers(options: KubernetesOptions, workers: Sequence[WorkerSpec]) -> None:
    """Refuse what no cluster could place.

    Raises:
        ConfigError: A device whose resource is unknown.
        LauncherError: Ranks that shall share accelerators.
    """
    for worker in workers:
        if device_resource(options, worker.device) is not None and worker.oversubscribe:
            raise LauncherError(
                f"worker {worker.worker}: oversubscribe is true; expected false for device "
                f"{worker.device!r}: Kubernetes gives every rank a device of its own"
            )
