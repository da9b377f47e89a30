import pytest
import yaml
from support.kubernetes import REPOSITORY, kubectl

from launchers.kubernetes_permissions import MASTER_PERMISSIONS, USER_PERMISSIONS, Permission

pytestmark = pytest.mark.kubernetes

K8S = REPOSITORY / "k8s"


@pytest.mark.parametrize("overlay", ["nvidia", "ascend", "cpu"])
def test_overlays_put_the_base_into_a_namespace_of_their_own(overlay: str) -> None:
    built = list(yaml.safe_load_all(kubectl("kustomize", str(K8S / "overlays" / overlay))))
    kinds = [manifest["kind"] for manifest in built]
    assert sorted(kinds) == sorted(
        [
            *("Namespace", "ServiceAccount", "Role", "Role", "RoleBinding", "ResourceQuota"),
            *("NetworkPolicy", "PodDisruptionBudget", "PersistentVolumeClaim"),
        ]
    )
    placed = {manifest["metadata"].get("namespace") for manifest in built if manifest["kind"] != "Namespace"}
    assert placed == {"aibench"}


def test_the_cluster_takes_the_base(namespace: str) -> None:
    said = kubectl(
        "apply", "--dry-run=server", "--namespace", namespace, "--kustomize", str(K8S / "dev-cluster")
    )
    assert said.count("created (server dry run)") == 7


@pytest.mark.parametrize(
    ("role", "permissions"), [("aibench-master", MASTER_PERMISSIONS), ("aibench-user", USER_PERMISSIONS)]
)
def test_a_role_grants_what_is_needed_and_no_more(
    base: str, role: str, permissions: tuple[Permission, ...]
) -> None:
    rules = yaml.safe_load(kubectl("get", "role", role, "--namespace", base, "--output", "yaml"))["rules"]
    granted = {
        (verb, group, resource)
        for rule in rules
        for verb in rule["verbs"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }
    assert granted == set(permissions)
