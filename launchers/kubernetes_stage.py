"""Parcels onto the nodes' disks by init containers: a pod unpacks what its node lacks, then starts."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aibench.api.stage import StageOrder, unpack_arguments
from aibench.errors import LauncherError
from launchers.kubernetes_manifest import CONTAINER, Manifest, literal
from launchers.kubernetes_options import KubernetesOptions


def check_mounts(order: StageOrder, options: KubernetesOptions) -> None:
    """Pass a parcel whose source and destination every worker's pod can see.

    Raises:
        LauncherError: One of them is on no volume that ``pod_patch`` mounts.
    """
    containers = options.pod_patch.get("spec", {}).get("containers", [])
    mounts = [
        Path(mount["mountPath"])
        for container in containers
        if container.get("name") == CONTAINER
        for mount in container.get("volumeMounts", [])
    ]
    for key, path in (("archive", order.source), ("directory", order.directory)):
        if not any(path.is_relative_to(mount) for mount in mounts):
            raise LauncherError(
                f"stage.{key}: {path} is on no volume of the workers' pods; expected a path below a "
                "mountPath of launcher.pod_patch (archive: a volume that all nodes share, directory: a disk "
                "of the node)"
            )


def with_staging(job: Manifest, orders: Sequence[StageOrder], options: KubernetesOptions) -> Manifest:
    """A Job of workers whose pods first unpack the parcels, each by an init container."""
    if not orders:
        return job
    staged = copy.deepcopy(job)
    pod = staged["spec"]["template"]["spec"]
    worker = next(container for container in pod["containers"] if container["name"] == CONTAINER)
    pod["initContainers"] = [
        *pod.get("initContainers", []),
        *(_init_container(worker, order, options) for order in orders),
    ]
    return staged


def _init_container(worker: Manifest, order: StageOrder, options: KubernetesOptions) -> dict[str, Any]:
    """The worker's own container with another program, and without its devices."""
    container = {key: value for key, value in worker.items() if key not in ("resources", "ports")}
    command = (options.python, *unpack_arguments(order, order.source))
    return {
        **container,
        "name": f"stage-{order.parcel.name}",
        "command": [literal(word) for word in command],
    }
