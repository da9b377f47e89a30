"""What a master and a person must be allowed to do in the namespace; ``k8s/base`` has a Role for either."""

from __future__ import annotations

from collections.abc import Sequence

from aibench.errors import LauncherError
from launchers.kubernetes_commands import Kubectl

Permission = tuple[str, str, str]
"""Verb, API group, resource."""


def _all(group: str, resource: str, *verbs: str) -> tuple[Permission, ...]:
    return tuple((verb, group, resource) for verb in verbs)


MASTER_PERMISSIONS: Sequence[Permission] = (
    *_all("batch", "jobs", "create", "list", "delete"),
    *_all("", "pods", "list", "patch", "delete"),
    *_all("", "pods/log", "get"),
    # Never get or list: no other secret of the namespace can be read.
    *_all("", "secrets", "create", "patch", "delete"),
    *_all("", "services", "create", "patch", "delete"),
)
USER_PERMISSIONS: Sequence[Permission] = (
    *_all("batch", "jobs", "create", "list", "delete"),
    *_all("", "pods", "create", "get", "list", "delete"),
    *_all("", "pods/log", "get"),
    *_all("", "pods/exec", "create"),
    *_all("", "configmaps", "create", "list", "delete"),
    *_all("", "services", "create", "list", "delete"),
    *_all("", "serviceaccounts", "get"),
    *_all("", "persistentvolumeclaims", "get"),
)


def require_permissions(kubectl: Kubectl, permissions: Sequence[Permission], *, role: str) -> None:
    """Refuse a cluster that would refuse us.

    Args:
        role: Name of the Role in ``k8s/base`` that grants all of them.

    Raises:
        LauncherError: Some are missing, the namespace is, or the cluster did not answer.
    """
    allowed = kubectl.may(permissions)
    missing = [permission for permission, may in zip(permissions, allowed, strict=True) if not may]
    if missing:
        verbs = ", ".join(f"{verb} {resource}" for verb, _, resource in missing)
        raise LauncherError(
            f"namespace {kubectl.namespace()}: this account may not {verbs}; "
            f"bind it to the Role {role} (kubectl apply -k k8s/base)"
        )
    if not kubectl.has_namespace():
        raise LauncherError(f"namespace {kubectl.namespace()} does not exist (launcher.namespace)")
