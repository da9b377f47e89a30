from typing import Any

import pytest
from support.workers import worker

from aibench.config.validate import to_section
from aibench.errors import ConfigError, LauncherError
from launchers.kubernetes_options import KubernetesOptions, check_workers, device_resource


def options(**given: Any) -> KubernetesOptions:
    return to_section({"image": "aibench:cpu", **given}, KubernetesOptions, path="launcher")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"image": None}, "launcher.image"),
        ({"namespace": "Not A Name"}, "launcher.namespace"),
        ({"memory": "much"}, "launcher.memory"),
        ({"cpu": 0}, "launcher.cpu"),
        ({"results": {"claim": "a", "size": "1Gi"}}, "give either claim or size"),
        (
            {"pod_patch": {"nodeSelector": {}}},
            "pod_patch: 'nodeSelector'; expected a mapping under metadata or spec",
        ),
        ({"master_patch": {"spec": []}}, "master_patch: 'spec'"),
        ({"pod_patch": {"spec": {"hostNetwork": True}}}, "pod_patch: spec.hostNetwork is aibench's own"),
        ({"adress": "pod_ip"}, "adress"),
    ],
)
def test_unusable_values_are_named(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        options(**given)
    assert said in str(refused.value)


def test_the_image_must_be_given() -> None:
    with pytest.raises(ConfigError, match="image"):
        to_section({}, KubernetesOptions, path="launcher")


@pytest.mark.parametrize(
    ("device", "given", "expected"),
    [
        ("cpu", {}, None),
        ("cpu", {"resource": "nvidia.com/gpu"}, None),
        ("cuda", {}, "nvidia.com/gpu"),
        ("cuda", {"resource": "amd.com/gpu"}, "amd.com/gpu"),
        ("npu", {}, "huawei.com/Ascend910"),
        ("auto", {"resource": "example.com/chip"}, "example.com/chip"),
    ],
)
def test_devices_are_asked_for_by_the_name_that_the_cluster_knows(
    device: str, given: dict[str, Any], expected: str | None
) -> None:
    assert device_resource(options(**given), device) == expected


@pytest.mark.parametrize("device", ["auto", "xpu"])
def test_no_name_is_guessed(device: str) -> None:
    with pytest.raises(ConfigError, match=r"launcher\.resource: missing"):
        check_workers(options(), [worker(device=device)])


def test_ranks_cannot_share_accelerators() -> None:
    with pytest.raises(LauncherError, match="worker w0: oversubscribe is true"):
        check_workers(options(), [worker(device="cuda", oversubscribe=True)])
    check_workers(options(), [worker(device="cpu", oversubscribe=True)])
