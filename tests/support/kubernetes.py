"""A real Kubernetes for tests: the one that kubectl finds; its nodes see this machine's files."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

REPOSITORY = Path(__file__).parents[2]
IMAGE = "aibench:dev"
"""Of the dev cluster: an empty root, into which this machine's Python is mounted."""
KUBECTL_TIMEOUT_S = 60.0


def kubectl(*arguments: str, stdin: str = "") -> str:
    """Run kubectl, which must succeed; what it printed."""
    done = subprocess.run(
        ["kubectl", *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=KUBECTL_TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stderr}"
    return done.stdout


def apply(*manifests: dict[str, Any]) -> None:
    """Create or change objects."""
    kubectl("apply", "--filename", "-", stdin=yaml.safe_dump_all(manifests))


def objects(kinds: str, namespace: str, selector: str = "") -> list[dict[str, Any]]:
    """Objects of some kinds in a namespace."""
    chosen = ["--selector", selector] if selector else []
    text = kubectl("get", kinds, "--namespace", namespace, "--output", "json", *chosen)
    found: list[dict[str, Any]] = json.loads(text)["items"]
    return found


def names(kinds: str, namespace: str, selector: str = "") -> list[str]:
    """``Kind/name`` of objects."""
    return [f"{item['kind']}/{item['metadata']['name']}" for item in objects(kinds, namespace, selector)]


def host_mounts(*shared: Path) -> dict[str, Any]:
    """A patch for pods: this machine's Python and checkout, read-only, and some folders, writable."""
    read_only = [Path("/usr"), Path(sys.base_prefix), Path(sys.prefix), REPOSITORY]
    paths = {path: True for path in read_only if path == Path("/usr") or not path.is_relative_to("/usr")}
    paths.update(dict.fromkeys(shared, False))
    volumes = [
        {"name": f"host-{number}", "hostPath": {"path": str(path), "type": "Directory"}}
        for number, path in enumerate(paths)
    ]
    mounts = [
        {"name": f"host-{number}", "mountPath": str(path), "readOnly": is_read_only}
        for number, (path, is_read_only) in enumerate(paths.items())
    ]
    environment = [{"name": "PYTHONPATH", "value": str(REPOSITORY)}]
    container = {"name": "aibench", "volumeMounts": mounts, "env": environment}
    return {"spec": {"containers": [container], "volumes": volumes}}
