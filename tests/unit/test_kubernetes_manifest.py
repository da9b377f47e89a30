from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from support.golden import check_golden
from support.workers import worker

from aibench.api.host import MasterOrder
from launchers.kubernetes_commands import Kubectl
from launchers.kubernetes_host import KubernetesHost
from launchers.kubernetes_manifest import (
    LONGEST_NAME,
    Owner,
    RunNames,
    control_secret,
    gang_job,
    gang_service,
    pool_job,
    to_yaml,
)
from launchers.kubernetes_master import fetch_pod, master_company, master_job
from launchers.kubernetes_options import KubernetesOptions, Results

REPOSITORY = Path(__file__).parents[2]
APPLIED = (REPOSITORY / "k8s").glob("*/**/*.yaml")
RELEASES = ("1.25", "1.37")
"""The oldest and the newest API whose schemas are there."""
OWNER = Owner(name=RunNames("run").master, uid="00000000-0000-0000-0000-000000000001")
PATCH: dict[str, Any] = {
    "metadata": {"annotations": {"sidecar.istio.io/inject": "false"}},
    "spec": {
        "nodeSelector": {"zone": "a"},
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
        "imagePullSecrets": [{"name": "pull"}],
        "containers": [{"name": "aibench", "volumeMounts": [{"name": "data", "mountPath": "/data"}]}],
        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "imagenet"}}],
    },
}


def options(**changes: Any) -> KubernetesOptions:
    return KubernetesOptions(image="aibench:cpu", **changes)


PODS = [worker(), worker(worker="w1")]
GPUS = [worker(num_ranks=8, device="cuda")]
GANG = worker(num_ranks=16, num_nodes=2, device="npu")
MANIFESTS: dict[str, list[dict[str, Any]]] = {
    "pool-cpu": [pool_job(options(), PODS, 0, None)],
    "pool-cuda": [pool_job(options(cpu=16, memory="64Gi", pod_patch=PATCH), GPUS, 3, OWNER)],
    "gang-npu": [gang_job(options(cpu=24), GANG, 0, OWNER), gang_service("run", OWNER)],
    "secret": [control_secret("run", '{"url": "http://10.0.0.1:80", "token": "secret"}', OWNER)],
    "master": [
        master_job(options(results=Results(claim="results"), pod_patch=PATCH), "run"),
        *master_company(options(), "run", "name: run\n", OWNER),
    ],
    "master-without-claim": [
        master_job(options(results=Results(size="1Gi"), image_pull_policy="Always"), "run")
    ],
    "fetch": [fetch_pod(options(results=Results(claim="results")), RunNames("run").base)],
}


@pytest.mark.parametrize("name", MANIFESTS)
def test_manifests_are_the_golden_ones(name: str) -> None:
    check_golden(f"kubernetes/{name}.yaml", to_yaml(MANIFESTS[name]))


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("name", MANIFESTS)
def test_manifests_fit_the_api(name: str, release: str) -> None:
    for manifest in MANIFESTS[name]:
        kubernetes_validate.validate(manifest, release, strict=True)


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("path", sorted(APPLIED), ids=lambda path: path.name)
def test_what_administrators_apply_fits_the_api(path: Path, release: str) -> None:
    for manifest in yaml.safe_load_all(path.read_text()):
        if manifest.get("kind", "Kustomization") != "Kustomization":
            kubernetes_validate.validate(manifest, release, strict=True)


def pod_spec(manifest: dict[str, Any]) -> dict[str, Any]:
    spec: dict[str, Any] = manifest["spec"]["template"]["spec"]
    return spec


def test_every_container_runs_without_privileges_on_a_read_only_root() -> None:
    for manifests in MANIFESTS.values():
        for manifest in manifests:
            if manifest["kind"] in ("Job", "Pod"):
                spec = pod_spec(manifest) if manifest["kind"] == "Job" else manifest["spec"]
                assert spec["securityContext"]["runAsNonRoot"] is True
                for container in spec["containers"]:
                    assert container["securityContext"] == {
                        "allowPrivilegeEscalation": False,
                        "readOnlyRootFilesystem": True,
                        "capabilities": {"drop": ["ALL"]},
                    }


def test_workers_have_no_access_to_the_api() -> None:
    for name in ("pool-cpu", "pool-cuda", "gang-npu"):
        spec = pod_spec(MANIFESTS[name][0])
        assert spec["automountServiceAccountToken"] is False
        assert "serviceAccountName" not in spec


def test_the_keeper_of_the_results_sees_the_volumes_that_a_patch_gives_the_master() -> None:
    master, keeper = pod_spec(MANIFESTS["master"][0])["containers"]
    assert keeper["volumeMounts"] == master["volumeMounts"]
    assert {"name": "data", "mountPath": "/data"} in keeper["volumeMounts"]


def test_a_patch_takes_out_what_it_sets_to_null() -> None:
    patch = {"spec": {"securityContext": None, "terminationGracePeriodSeconds": 3}}
    spec = pod_spec(pool_job(options(pod_patch=patch), PODS, 0, None))
    assert "securityContext" not in spec
    assert spec["terminationGracePeriodSeconds"] == 3


def test_what_looks_like_a_variable_reaches_the_worker_as_it_is() -> None:
    spec = pod_spec(pool_job(options(), [worker(program=("-c", "print('$(HOME) $$')"))], 0, None))
    assert "print('$$(HOME) $$$$')" in spec["containers"][0]["command"]


@pytest.mark.parametrize(
    "run", ["x" * 90, "Run.Of_Mine", "überlauf 7", "-", "äöü", "a" * LONGEST_NAME + "-b"]
)
def test_names_are_labels_and_host_names_whatever_the_run_is_called(run: str) -> None:
    base = RunNames(run).base
    pod = f"{base}-p999-9999-abcde"
    assert len(pod) < 64
    assert pod == pod.lower()
    assert pod.replace("-", "").isalnum()
    assert pod.isascii()
    assert "--" not in pod


def test_runs_of_different_names_have_different_objects() -> None:
    assert RunNames("a.b").base != RunNames("a-b").base


def test_a_plan_shows_the_master_and_its_workers_and_no_secret(tmp_path: Path) -> None:
    order = MasterOrder(run="run", run_dir=tmp_path, config="a: 1\n", workers=PODS, measured_time_s=60)
    host = KubernetesHost(options(), Kubectl(context=None, namespace="ns"))
    kinds = [manifest["kind"] for manifest in yaml.safe_load_all(host.render(order))]
    assert kinds == ["Job", "ConfigMap", "Service", "Job"]
