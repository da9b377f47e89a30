"""The data set on the nodes' disks, unpacked by init containers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.images import image_workload, make_images
from support.kubernetes import host_mounts, objects

pytestmark = pytest.mark.kubernetes

SIDE = 32


def staged(make_run: Callable[..., Any], shared: Path, directory: Path) -> Any:
    return make_run(
        {"pod_patch": host_mounts(shared)},
        workload=image_workload(shared / "images", side=SIDE),
        limits={"trials": 2, "measured_time_s": 150},
        epochs={"warmup": [], "full": 1},
        stage={"directory": str(directory), "archive": str(shared / "archive")},
    )


def test_pods_unpack_the_data_before_they_start(make_run: Callable[..., Any], shared: Path) -> None:
    make_images(shared / "images", side=SIDE)
    run = staged(make_run, shared, shared / "local")
    run.start()
    run.wait_until(lambda: len(run.pods("worker")) == 2, "workers")
    pods = objects("pods", run.namespace, "app.kubernetes.io/component=worker")
    _, output = run.finish()
    assert run.events("epoch_finished"), output
    (copy,) = (path for path in (shared / "local").iterdir() if path.is_dir())
    assert sorted(path.name for path in copy.iterdir()) == [".aibench-stage.json", "train", "val"]
    for pod in pods:
        assert [init["name"] for init in pod["spec"]["initContainers"]] == ["stage-data"]
    assert run.left() == []


def test_a_directory_that_no_volume_has_is_one_line(make_run: Callable[..., Any], shared: Path) -> None:
    make_images(shared / "images", side=SIDE)
    run = staged(make_run, shared, Path("/nowhere"))
    run.start()
    status, output = run.finish()
    assert status == 2, output
    assert "stage.directory: /nowhere is on no volume of the workers' pods" in output
    assert "Traceback" not in output
    assert run.left() == []
