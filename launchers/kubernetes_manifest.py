"""The exact objects that are created for a run, as plain data; asks and sends nothing.

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
RESULTS_CONTAINER = "results"
WORKER, MASTER, FETCH = "worker", "master", "fetch"
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
FETCH_S = 3600
"""Life of a pod for fetching, should nobody be left to delete it."""
MANY = 1_000_000
"""Failures after which a Job gives up; the master gives up much sooner."""
LONGEST_NAME = 24

KEPT_FOR_KEEPER = ("image", "imagePullPolicy", "env", "envFrom", "securityContext", "volumeMounts")

SERVICE_VARIABLE = "AIBENCH_SERVICE"
POD_IP_VARIABLE = "AIBENCH_POD_IP"
OWNER_VARIABLE = "AIBENCH_OWNER"
OWNER_UID_VARIABLE = "AIBENCH_OWNER_UID"
_POD_PROGRAM = ("-c", "from launchers.kubernetes_pod import main; main()")


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
    return _job(f"{RunNames(worker.run).base}-{worker.pool}-{number}", marks, spec, owner)


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
                _from_field("AIBENCH_NODE_RANK", f"metadata.annotations['{INDEX_ANNOTATION}']"),
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
    return _job(name, marks, spec, owner)


def control_secret(run: str, address: str, owner: Owner | None) -> Manifest:
    """Where the workers find the master, and the token that they show.

    Args:
        address: Content of the control file.
    """
    names = RunNames(run)
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": _metadata(names.control, labels(run, WORKER), owner),
        "type": "Opaque",
        "stringData": {CONTROL_FILE.name: address},
    }


def master_job(options: KubernetesOptions, run: str) -> Manifest:
    """The one pod of the master, replaced until its run has ended, with a keeper of its results beside it."""
    names, marks = RunNames(run), labels(run, MASTER)
    shared = _container(options)
    master = {
        **shared,
        "command": _pod_command(options, "serve", str(names.run_dir), run),
        "env": [
            *shared["env"],
            _from_field(POD_IP_VARIABLE, "status.podIP"),
            _from_field(OWNER_UID_VARIABLE, "metadata.labels['controller-uid']"),
            {"name": OWNER_VARIABLE, "value": names.master},
            {"name": SERVICE_VARIABLE, "value": names.base},
        ],
        "resources": {"requests": {"cpu": "250m", "memory": "256Mi"}},
    }
    master["volumeMounts"] = [*shared["volumeMounts"], {"name": "config", "mountPath": str(CONFIG_DIR)}]
    pod = {
        "serviceAccountName": options.service_account,
        "automountServiceAccountToken": True,
        "restartPolicy": "OnFailure",
        "containers": [master],
        "volumes": [
            {"name": "config", "configMap": {"name": names.base}},
            {"name": "results", **_results_volume(options)},
        ],
    }
    template = merged(merged(_template(options, marks, pod), options.pod_patch), options.master_patch)
    template["spec"]["containers"].append(_keeper(options, names, template["spec"]["containers"]))
    spec = {"backoffLimit": MANY, "ttlSecondsAfterFinished": options.ttl_s, "template": template}
    return _job(names.master, marks, spec, None)


def master_company(options: KubernetesOptions, run: str, config: str, owner: Owner) -> list[Manifest]:
    """What the master's pod needs beside its Job: its configuration, and the name that workers know it by."""
    names, marks = RunNames(run), labels(run, MASTER)
    return [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": _metadata(names.base, marks, owner),
            "data": {"config.yaml": config},
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": _metadata(names.base, marks, owner),
            "spec": _headless(marks),
        },
    ]


def gang_service(run: str, owner: Owner | None) -> Manifest:
    """Names for the pods of workers over several nodes, by which they find each other."""
    marks = labels(run, WORKER)
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(RunNames(run).gangs, marks, owner),
        "spec": _headless(marks),
    }


def fetch_pod(options: KubernetesOptions, run_base: str) -> Manifest:
    """A pod that does nothing but hold the claim with the results of a master whose pod is gone."""
    marks = {"app.kubernetes.io/name": "aibench", RUN_LABEL: run_base, COMPONENT_LABEL: FETCH}
    container = _container(options)
    container["command"] = _pod_command(options, "keep", str(RESULTS_DIR / run_base), str(FETCH_S))
    pod = {
        "automountServiceAccountToken": False,
        "restartPolicy": "Never",
        "containers": [container],
        "volumes": [{"name": "results", **_results_volume(options)}],
    }
    template = merged(merged(_template(options, marks, pod), options.pod_patch), options.master_patch)
    template["metadata"]["name"] = f"{run_base}-{FETCH}"
    return {"apiVersion": "v1", "kind": "Pod", **template}


def to_yaml(manifests: Sequence[Manifest]) -> str:
    """The text of several objects."""
    return yaml.dump_all(manifests, Dumper=_PlainDumper, sort_keys=False, allow_unicode=True, width=110)


class _PlainDumper(yaml.SafeDumper):
    """Writes equal parts out instead of pointing from one to the other."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def _headless(selector: dict[str, str]) -> Manifest:
    """Without ports, and before pods are ready: names for their addresses, and nothing else."""
    return {"clusterIP": "None", "publishNotReadyAddresses": True, "selector": selector}


def _job(name: str, marks: dict[str, str], spec: Manifest, owner: Owner | None) -> Manifest:
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": _metadata(name, marks, owner), "spec": spec}


def _metadata(name: str, marks: dict[str, str], owner: Owner | None) -> Manifest:
    metadata: Manifest = {"name": name, "labels": marks}
    if owner is not None:
        metadata["ownerReferences"] = [
            {"apiVersion": "batch/v1", "kind": "Job", "name": owner.name, "uid": owner.uid}
        ]
    return metadata


def _worker_template(
    options: KubernetesOptions, worker: WorkerSpec, command: Sequence[str], marks: dict[str, str]
) -> Manifest:
    container = _container(options)
    container["command"] = [_literal(word) for word in command]
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
    return _patched(_template(options, marks, pod), options)


def _patched(template: Manifest, options: KubernetesOptions) -> Manifest:
    patched: Manifest = merged(template, options.pod_patch)
    return patched


def _template(options: KubernetesOptions, marks: dict[str, str], pod: Manifest) -> Manifest:
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


def _container(options: KubernetesOptions) -> Manifest:
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


def _keeper(options: KubernetesOptions, names: RunNames, containers: Sequence[Manifest]) -> Manifest:
    """A container that sees what the master's sees, patches included, and does nothing."""
    master = next(container for container in containers if container["name"] == CONTAINER)
    return {
        **{key: value for key, value in master.items() if key in KEPT_FOR_KEEPER},
        "name": RESULTS_CONTAINER,
        "command": _pod_command(options, "keep", str(names.run_dir), str(options.ttl_s)),
        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}},
    }


def _results_volume(options: KubernetesOptions) -> Manifest:
    if options.results.claim is not None:
        return {"persistentVolumeClaim": {"claimName": options.results.claim}}
    size = options.results.size
    return {"emptyDir": {"sizeLimit": size} if size else {}}


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


def _pod_command(options: KubernetesOptions, *arguments: str) -> list[str]:
    return [options.python, *_POD_PROGRAM, *map(_literal, arguments)]


def pod_program(options: KubernetesOptions, *arguments: str) -> list[str]:
    """Command line for ``kubectl exec`` of a program of `launchers.kubernetes_pod`."""
    return [options.python, *_POD_PROGRAM, *arguments]


def _literal(word: str) -> str:
    """The word so that the kubelet, which replaces ``$(NAME)``, passes it as it is."""
    return word.replace("$", "$$")


def _from_field(name: str, path: str) -> Manifest:
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}
