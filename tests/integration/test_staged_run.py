"""A run whose data and environment were brought to a local disk first."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from support.images import image_workload, make_images

SIDE = 32


def staged_run(make_run: Callable[..., Any], tmp_path: Path, **stage: Any) -> Any:
    return make_run(
        workload=image_workload(tmp_path / "images", side=SIDE),
        workers=[{"count": 1, "ranks": 1, "device": "cpu", "oversubscribe": True}],
        limits={"trials": 1},
        epochs={"warmup": [], "full": 1},
        stage={"directory": str(tmp_path / "local"), **stage},
    )


def test_workers_read_the_staged_copy_and_a_second_run_finds_it_there(
    make_run: Callable[..., Any], tmp_path: Path
) -> None:
    make_images(tmp_path / "images", side=SIDE)
    first = staged_run(make_run, tmp_path, archive=str(tmp_path / "archive"))
    first.start()
    _, output = first.finish()
    assert first.events("epoch_finished"), output
    assert "data: packed before" not in output
    (copy,) = (path for path in (tmp_path / "local").iterdir() if path.is_dir())
    assert copy.name.startswith("data-")
    assert first.events("run_started")[0]["config"]["workload"]["data_dir"] == str(tmp_path / "images")
    unpacked = copy.stat().st_ctime_ns

    second = staged_run(make_run, tmp_path, archive=str(tmp_path / "archive"))
    second.root = tmp_path / "second"
    second.start()
    _, output = second.finish()
    assert second.events("epoch_finished"), output
    assert "data: packed before, unchanged since" in output
    assert copy.stat().st_ctime_ns == unpacked


def test_staging_data_that_the_workload_does_not_read_is_one_line(
    make_run: Callable[..., Any], tmp_path: Path, aibench: Callable[..., Any]
) -> None:
    run = make_run(stage={"directory": str(tmp_path / "local")})
    done = aibench("run", run.config, "--out", run.root)
    assert done.returncode == 2
    assert done.stderr.startswith("aibench: stage.data: workload 'image_classification' reads no data_dir")
    assert done.stderr.count("\n") == 1
    assert not run.root.exists()


def test_a_relative_directory_is_one_line(make_run: Callable[..., Any], aibench: Callable[..., Any]) -> None:
    run = make_run(stage={"directory": "local"})
    done = aibench("run", run.config, "--out", run.root, "--dry-run")
    assert done.returncode == 2
    assert done.stderr == "aibench: stage: directory is 'local'; expected an absolute path\n"
