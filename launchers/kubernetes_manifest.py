"""The exact objects that are created for a run and its workers, as plain data; asks and sends nothing.

Whatever is created carries the labels of its run. What a master in the cluster creates, and what is created
for it, is owned by the master's Job, so that deleting that one object removes everything.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from aibench.api.launcher import CPU, WorkerSpec, pool_arguments, worker_arguments
from launchers.kubernetes_options import KubernetesOptions, device_resource
from launchers.kubernetes_patch import merged

Manifest = dict[str, Any]

CONTAINER = "aibench"
WORKER, MASTER = "worker", "master"
RUN_LABEL = "app.kubernetes.io/instance"
COMPONENT_LABEL = "app.kubernetes.io/component"
POOL_LABEL, WORKER_LABEL = "aibench/pool", "aibench/worker"

CONTROL_DIR = Path("/var/run/aibench")
CONTROL_FILE = CONTROL_DIR / "control.json"
RESULTS_DIR = Path("/var/lib/aibench")
CONFIG_DIR = Path("/etc/aibench")
INDEX_ANNOTATION = "batch.kubernetes.io/job-completion-index"
RENDEZVOUS_PORT = 29500
GROUP = 10001
"""Group of all volumes; whatever user the image or the cluster chooses is in it."""
GRACE_S = 10
MANY = 1_000_000
"""Failures after which a Job gives up; the master gives up much sooner."""
LONGEST_NAME = 24


SERVICE_VARIABLE = "AIBENCH_SERVICE"
POD_IP_VARIABLE = "AIBENCH_POD_IP"
OWNER_VARIABLE = "AIBENCH_OWNER"
OWNER_UID_VARIABLE = "AIBENCH_OWNER_UID"


@dataclass(frozen=True, kw_only=True, slots=True)
class Owner:
    """The Job of the master."""

    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class RunNames:
    """What the objects of a run are called: short enough that a pod's name is its host name too."""

    run: str

    @property
    def base(self) -> str:
        """Value of the run's label, and start of every name."""
        readable = re.sub(r"[^a-z0-9]+", "-", self.run.lower())[:LONGEST_NAME].strip("-")
        return "-".join(
            filter(None, ["aibench", readable, hashlib.sha256(self.run.encode()).hexdigest()[:8]])
        )

    @property
    def control(self) -> str:
        """The Secret with the master's address and token."""
        return f"{self.base}-control"

    @property
    def master(self) -> str:
        """The Job of the master."""
        return f"{self.base}-{MASTER}"

    @property
    def gangs(self) -> str:
        """The Service of workers over several nodes."""
        return f"{self.base}-gangs"

    @property
    def run_dir(self) -> Path:
        """The run folder in the master's pod."""
        return RESULTS_DIR / self.base


def labels(run: str, component: str) -> dict[str, str]:
    """Labels of everything that belongs to a part of a run."""
    return {
        "app.kubernetes.io/name": "aibench",
        RUN_LABEL: RunNames(run).base,
        COMPONENT_LABEL: component,
    }


def pool_job(
    options: KubernetesOptions, workers: Sequence[WorkerSpec], number: int, owner: Owner | None
) -> Manifest:
    """A work queue of alike pods, one for each of these workers of a pool; the pods ask which worker to be.

    Args:
        number: Tells the Jobs of a pool apart.
    """
    worker = workers[0]
    marks = {**labels(worker.run, WORKER), POOL_LABEL: worker.pool}
    command = [worker.python or options.python, *pool_arguments(worker, CONTROL_FILE)]
    spec = {
        "parallelism": len(workers),
        "backoffLimit": MANY,
        "template": _worker_template(options, worker, command, marks),
    }
    return job_manifest(f"{RunNames(worker.run).base}-{worker.pool}-{number}", marks, spec, owner)


def gang_job(options: KubernetesOptions, worker: WorkerSpec, number: int, owner: Owner | None) -> Manifest:
    """The pods of a worker that spans several nodes. They end together; needs Indexed Jobs and DNS."""
    names = RunNames(worker.run)
    name = f"{names.base}-{worker.worker}-{number}"
    marks = {**labels(worker.run, WORKER), POOL_LABEL: worker.pool, WORKER_LABEL: worker.worker}
    command = [worker.python or options.python, *worker_arguments(replace(worker, control_file=CONTROL_FILE))]
    template = _worker_template(options, worker, command, marks)
    gang = {
        "subdomain": names.gangs,
        "containers": [{
            "name": CONTAINER,
            "env": [
                from_field("AIBENCH_NODE_RANK", f"metadata.annotations['{INDEX_ANNOTATION}']"),
                {"name": "AIBENCH_RENDEZVOUS", "value": f"{name}-0.{names.gangs}:{RENDEZVOUS_PORT}"},
            ],
        }],
    }  # fmt: skip
    spec = {
        "completionMode": "Indexed",
        "completions": worker.num_nodes,
        "parallelism": worker.num_nodes,
        "backoffLimit": 0,
        "template": merged(template, {"spec": gang}),
    }
    return job_manifest(name, marks, spec, owner)


def control_secret(run: str, address: str, owner: Owner | None) -> Manifest:
    """Where the workers find the master, and the token that they show.

    Args:
        address: Content of the control file.
    """
    names = RunNames(run)
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": metadata_of(names.control, labels(run, WORKER), owner),
        "type": "Opaque",
        "stringData": {CONTROL_FILE.name: address},
    }


def gang_service(run: str, owner: Owner | None) -> Manifest:
    """Names for the pods of workers over several nodes, by which they find each other."""
    marks = labels(run, WORKER)
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata_of(RunNames(run).gangs, marks, owner),
        "spec": headless(marks),
    }


def to_yaml(manifests: Sequence[Manifest]) -> str:
    """The text of several objects."""
    return yaml.dump_all(manifests, Dumper=_PlainDumper, sort_keys=False, allow_unicode=True, width=110)


class _PlainDumper(yaml.SafeDumper):
    """Writes equal parts out instead of pointing from one to the other."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def headless(selector: dict[str, str]) -> Manifest:
    """Without ports, and before pods are ready: names for their addresses, and nothing else."""
    return {"clusterIP": "None", "publishNotReadyAddresses": True, "selector": selector}


def job_manifest(name: str, marks: dict[str, str], spec: Manifest, owner: Owner | None) -> Manifest:
    """A Job with this specification."""
    metadata = metadata_of(name, marks, owner)
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec}


def metadata_of(name: str, marks: dict[str, str], owner: Owner | None) -> Manifest:
    """Name, labels and owner of an object."""
    metadata: Manifest = {"name": name, "labels": marks}
    if owner is not None:
        metadata["ownerReferences"] = [
            {"apiVersion": "batch/v1", "kind": "Job", "name": owner.name, "uid": owner.uid}
        ]
    return metadata


def _worker_template(
    options: KubernetesOptions, worker: WorkerSpec, command: Sequence[str], marks: dict[str, str]
) -> Manifest:
    container = main_container(options)
    container["command"] = [literal(word) for word in command]
    container["env"] += _worker_environment(options, worker)
    container["resources"] = _resources(options, worker)
    container["volumeMounts"] = [
        {"name": "control", "mountPath": str(CONTROL_DIR), "readOnly": True},
        *(mount for mount in container["volumeMounts"] if mount["name"] != "results"),
    ]
    secret = {"secretName": RunNames(worker.run).control, "defaultMode": 0o440}
    pod = {
        "automountServiceAccountToken": False,
        "restartPolicy": "Never",
        "containers": [container],
        "volumes": [{"name": "control", "secret": secret}],
    }
    return _patched(pod_template(options, marks, pod), options)


def _patched(template: Manifest, options: KubernetesOptions) -> Manifest:
    patched: Manifest = merged(template, options.pod_patch)
    return patched


def pod_template(options: KubernetesOptions, marks: dict[str, str], pod: Manifest) -> Manifest:
    """A pod that needs no privilege and writes nowhere but to its volumes."""
    volumes = [
        *pod["volumes"],
        {"name": "tmp", "emptyDir": {}},
        {"name": "shm", "emptyDir": {"medium": "Memory"}},
    ]
    security = {
        "runAsNonRoot": True,
        "fsGroup": GROUP,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    return {
        "metadata": {"labels": dict(marks)},
        "spec": {
            **pod,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": GRACE_S,
            "securityContext": security,
            "volumes": volumes,
        },
    }


def main_container(options: KubernetesOptions) -> Manifest:
    """The container of master or worker, still without its command."""
    policy = options.image_pull_policy
    return {
        "name": CONTAINER,
        "image": options.image,
        **({"imagePullPolicy": policy} if policy else {}),
        "env": [
            {"name": "HOME", "value": "/tmp"},  # noqa: S108 -- a volume of the pod's own
            # The cluster may choose a user that the image does not know.
            {"name": "USER", "value": "aibench"},
            {"name": "PYTHONUNBUFFERED", "value": "1"},
            {"name": "PYTHONSAFEPATH", "value": "1"},
        ],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": "results", "mountPath": str(RESULTS_DIR)},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 -- likewise
            {"name": "shm", "mountPath": "/dev/shm"},  # noqa: S108 -- likewise
        ],
    }


def _resources(options: KubernetesOptions, worker: WorkerSpec) -> Manifest:
    """Requests for processor and memory, which may be exceeded; devices are never shared."""
    requests = {}
    if options.cpu is not None:
        requests["cpu"] = f"{options.cpu:g}"
    elif worker.device == CPU and not worker.oversubscribe:
        requests["cpu"] = str(worker.ranks_per_node)
    if options.memory is not None:
        requests["memory"] = options.memory
    resource = device_resource(options, worker.device)
    limits = {resource: str(worker.ranks_per_node)} if resource else {}
    return {key: value for key, value in (("requests", requests), ("limits", limits)) if value}


def _worker_environment(options: KubernetesOptions, worker: WorkerSpec) -> list[Manifest]:
    environment = []
    if options.cpu is not None or worker.device == CPU:
        # By itself a rank would take all cores of its node.
        threads = max(1, int(options.cpu or 0) // worker.ranks_per_node)
        environment.append({"name": "OMP_NUM_THREADS", "value": str(threads)})
    if worker.num_nodes == 1:
        # A gang in one pod needs neither the cluster's network nor a host name that resolves.
        environment.append({"name": "GLOO_SOCKET_IFNAME", "value": "lo"})
    return environment


def literal(word: str) -> str:
    """The word so that the kubelet, which replaces ``$(NAME)``, passes it as it is."""
    return word.replace("$", "$$")


def from_field(name: str, path: str) -> Manifest:
    """A variable whose value the cluster knows of the pod."""
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}
