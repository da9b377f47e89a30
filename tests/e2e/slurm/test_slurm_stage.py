"""The data set on the nodes' local disks, brought by sbcast."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.images import image_workload, make_images
from support.slurm import Allocation, ClusterRun

pytestmark = pytest.mark.slurm

SIDE = 32


def staged(slurm_run: Callable[..., ClusterRun], tmp_path: Path, **launcher: Any) -> ClusterRun:
    workload = image_workload(tmp_path / "images", side=SIDE)
    sections = {
        "workload": workload,
        "limits": {"trials": 2},
        "epochs": {"warmup": [], "full": 1},
        "stage": {"directory": str(tmp_path / "local"), "archive": str(tmp_path / "archive")},
    }
    return slurm_run(sections=sections, **launcher)


def test_data_is_broadcast_once_and_found_there_by_the_next_run(
    slurm_run: Callable[..., ClusterRun], tmp_path: Path
) -> None:
    make_images(tmp_path / "images", side=SIDE)
    made = staged(slurm_run, tmp_path)
    made.run.start()
    _, output = made.run.finish()
    assert made.run.events("epoch_finished"), output
    assert " MiB sent to 2 nodes, " in output
    (copy,) = (path for path in (tmp_path / "local").iterdir() if path.is_dir())
    assert copy.name.startswith("data-")
    assert list(copy.parent.glob("*.parts")) == []
    made.require_sound()

    again = staged(slurm_run, tmp_path)
    again.run.root = tmp_path / "again"
    again.run.start()
    _, output = again.run.finish()
    assert again.run.events("epoch_finished"), output
    assert "data: is on all 2 nodes already" in output


def test_a_part_that_an_earlier_try_brought_is_not_sent_again(
    allocation: Allocation, slurm_run: Callable[..., ClusterRun], tmp_path: Path
) -> None:
    make_images(tmp_path / "images", side=SIDE)
    first = staged(slurm_run, tmp_path)
    first.run.start()
    _, output = first.run.finish()
    assert first.run.events("epoch_finished"), output
    (copy,) = (path for path in (tmp_path / "local").iterdir() if path.is_dir())
    (part,) = (path for path in (tmp_path / "archive" / "data").glob("part-*") if path.stat().st_size)
    incoming = copy.with_name(f"{copy.name}.parts")
    incoming.mkdir()
    os.link(part, incoming / part.name)
    os.rename(copy, tmp_path / "damaged")

    again = staged(slurm_run, tmp_path)
    again.run.root = tmp_path / "again"
    again.run.start()
    _, output = again.run.finish()
    assert again.run.events("epoch_finished"), output
    assert "sent to" not in output
    assert copy.is_dir()


def test_workers_that_are_jobs_of_their_own_cannot_be_staged_for(
    slurm_run: Callable[..., ClusterRun], tmp_path: Path
) -> None:
    make_images(tmp_path / "images", side=SIDE)
    made = staged(slurm_run, tmp_path, master="here")
    made.run.start()
    status, output = made.run.finish()
    assert status == 2
    assert "aibench: stage: workers that are jobs of their own have no nodes yet" in output
    assert "Traceback" not in output
