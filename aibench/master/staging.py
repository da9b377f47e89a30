"""Data set and environment onto the nodes' local disks before the clock starts, where they are not yet."""

from __future__ import annotations

import dataclasses
import logging
import sys
import time
from pathlib import Path

from aibench.api.stage import StageOrder
from aibench.config import ResolvedRun
from aibench.errors import ConfigError
from aibench.master.layout import RunLayout
from aibench.master.loop import worker_specs
from aibench.staging.pack import pack, rate_text

logger = logging.getLogger(__name__)

DATA_OPTION = "data_dir"


def check_stage(resolved: ResolvedRun) -> None:
    """Refuse what cannot be staged, before anything is written.

    Raises:
        ConfigError: There is nothing of the kind to stage.
    """
    stage = resolved.config.stage
    if stage.directory is not None and stage.data:
        _data_dir(resolved)
    if stage.directory is not None and stage.environment:
        _environment()


def staged(resolved: ResolvedRun, layout: RunLayout) -> ResolvedRun:
    """The run with its workers' paths on local disks, after everything is there.

    Raises:
        StageError: It could not be packed or brought.
        LauncherError: The launcher cannot reach the nodes.
    """
    stage = resolved.config.stage
    if stage.directory is None:
        return resolved
    options, python = resolved.workload_options, resolved.worker_python
    if stage.data:
        destination = _bring(resolved, layout, "data", Path(_data_dir(resolved)))
        options = {**options, DATA_OPTION: str(destination)}
    if stage.environment:
        prefix = _environment()
        destination = _bring(resolved, layout, "environment", prefix)
        python = str(destination / Path(sys.executable).relative_to(prefix))
    return dataclasses.replace(resolved, workload_options=options, worker_python=python)


def _bring(resolved: ResolvedRun, layout: RunLayout, name: str, source: Path) -> Path:
    stage = resolved.config.stage
    assert stage.directory is not None
    archive = Path(stage.archive) if stage.archive is not None else layout.stage_dir
    parcel = pack(source, archive / name, name=name, say=logger.info)
    order = StageOrder(parcel=parcel, source=archive / name, directory=Path(stage.directory))
    began_s = time.monotonic()
    resolved.launcher.stage(order, worker_specs(resolved.config, layout), logger.info)
    logger.info(
        "%s: %s, workers use %s",
        name,
        rate_text(parcel.size_bytes, time.monotonic() - began_s),
        order.destination,
    )
    return order.destination


def _data_dir(resolved: ResolvedRun) -> str:
    found = resolved.workload_options.get(DATA_OPTION)
    if not isinstance(found, str):
        raise ConfigError(
            "stage.data", f"workload {resolved.workload_name!r} reads no {DATA_OPTION}; expected false here"
        )
    return found


def _environment() -> Path:
    if sys.prefix == sys.base_prefix:
        raise ConfigError(
            "stage.environment",
            f"this Python lives in {sys.prefix}, expected a virtual environment: only such a one can be "
            "carried to other nodes, which need the same base Python",
        )
    return Path(sys.prefix)
