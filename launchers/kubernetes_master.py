"""The objects of a master in the cluster, as plain data."""

from __future__ import annotations

from collections.abc import Sequence

from launchers.kubernetes_manifest import (
    COMPONENT_LABEL,
    CONFIG_DIR,
    CONTAINER,
    MANY,
    MASTER,
    OWNER_UID_VARIABLE,
    OWNER_VARIABLE,
    POD_IP_VARIABLE,
    RESULTS_DIR,
    RUN_LABEL,
    SERVICE_VARIABLE,
    Manifest,
    Owner,
    RunNames,
    from_field,
    headless,
    job_manifest,
    labels,
    literal,
    main_container,
    metadata_of,
    pod_template,
)
from launchers.kubernetes_options import KubernetesOptions
from launchers.kubernetes_patch import merged

FETCH = "fetch"
FETCH_S = 3600
"""Life of a pod for fetching, should nobody be left to delete it."""
RESULTS_CONTAINER = "results"
KEPT_FOR_KEEPER = ("image", "imagePullPolicy", "env", "envFrom", "securityContext", "volumeMounts")
_POD_PROGRAM = ("-c", "from launchers.kubernetes_pod import main; main()")


def master_job(options: KubernetesOptions, run: str) -> Manifest:
    """The one pod of the master, replaced until its run has ended, with a keeper of its results beside it."""
    names, marks = RunNames(run), labels(run, MASTER)
    shared = main_container(options)
    master = {
        **shared,
        "command": _pod_command(options, "serve", str(names.run_dir), run),
        "env": [
            *shared["env"],
            from_field(POD_IP_VARIABLE, "status.podIP"),
            from_field(OWNER_UID_VARIABLE, "metadata.labels['controller-uid']"),
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
    template = merged(merged(pod_template(options, marks, pod), options.pod_patch), options.master_patch)
    template["spec"]["containers"].append(_keeper(options, names, template["spec"]["containers"]))
    spec = {"backoffLimit": MANY, "ttlSecondsAfterFinished": options.ttl_s, "template": template}
    return job_manifest(names.master, marks, spec, None)


def master_company(options: KubernetesOptions, run: str, config: str, owner: Owner) -> list[Manifest]:
    """What the master's pod needs beside its Job: its configuration, and the name that workers know it by."""
    names, marks = RunNames(run), labels(run, MASTER)
    return [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": metadata_of(names.base, marks, owner),
            "data": {"config.yaml": config},
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": metadata_of(names.base, marks, owner),
            "spec": headless(marks),
        },
    ]


def fetch_pod(options: KubernetesOptions, run_base: str) -> Manifest:
    """A pod that does nothing but hold the claim with the results of a master whose pod is gone."""
    marks = {"app.kubernetes.io/name": "aibench", RUN_LABEL: run_base, COMPONENT_LABEL: FETCH}
    container = main_container(options)
    container["command"] = _pod_command(options, "keep", str(RESULTS_DIR / run_base), str(FETCH_S))
    pod = {
        "automountServiceAccountToken": False,
        "restartPolicy": "Never",
        "containers": [container],
        "volumes": [{"name": "results", **_results_volume(options)}],
    }
    template = merged(merged(pod_template(options, marks, pod), options.pod_patch), options.master_patch)
    template["metadata"]["name"] = f"{run_base}-{FETCH}"
    return {"apiVersion": "v1", "kind": "Pod", **template}


def pod_program(options: KubernetesOptions, *arguments: str) -> list[str]:
    """Command line for ``kubectl exec`` of a program of `launchers.kubernetes_pod`."""
    return [options.python, *_POD_PROGRAM, *arguments]


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


def _pod_command(options: KubernetesOptions, *arguments: str) -> list[str]:
    return [options.python, *_POD_PROGRAM, *map(literal, arguments)]
