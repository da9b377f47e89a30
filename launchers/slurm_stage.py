"""Parcels onto the disks of an allocation's nodes: sbcast's tree carries the parts, every node unpacks."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

import msgspec

from aibench.api.stage import NodeReport, Say, StageOrder, staged_arguments, unpack_arguments
from aibench.errors import LauncherError, StageError
from launchers.processes import python_environment
from launchers.slurm_commands import allocation_capacity, ask
from launchers.slurm_options import SlurmOptions
from launchers.slurm_script import everywhere_arguments

TRANSFER_TIMEOUT_S = 3600.0
"""For one part, or for unpacking all of them."""
MIB = 1024**2


def stage(order: StageOrder, options: SlurmOptions, job: str, say: Say) -> None:
    """Bring the parts that nodes miss to them, then unpack where that was not done.

    Raises:
        StageError: A node could not take it.
        LauncherError: SLURM or a node did not answer.
    """
    nodes = allocation_capacity(job).nodes
    reports = _reports(order, options, job, nodes)
    if len(reports) < nodes:
        raise LauncherError(f"job {job}: {len(reports)} of {nodes} nodes told what they have of the parcel")
    if all(report.is_complete for report in reports):
        say(f"{order.parcel.name}: is on all {nodes} nodes already")
        return
    missing = {name for report in reports for name in report.missing}
    if missing:
        _broadcast(order, job, nodes, missing, say)
    try:
        _everywhere(job, nodes, _python(options, unpack_arguments(order, order.incoming)))
    except LauncherError as error:
        raise StageError(f"{order.parcel.name}: {error}") from error


def _broadcast(order: StageOrder, job: str, nodes: int, missing: set[str], say: Say) -> None:
    _everywhere(job, nodes, ("mkdir", "-p", str(order.incoming)))
    parts = [part for part in order.parcel.parts if part.name in missing]
    to_send = sum(part.size_bytes for part in parts) / MIB
    sent_bytes, began_s = 0, time.monotonic()
    for part in parts:
        source, target = order.source / part.name, order.incoming / part.name
        ask("sbcast", f"--jobid={job}", "--force", str(source), str(target), timeout_s=TRANSFER_TIMEOUT_S)
        sent_bytes += part.size_bytes
        elapsed_s = max(time.monotonic() - began_s, 1e-3)
        say(
            f"{order.parcel.name}: {sent_bytes / MIB:.0f} of {to_send:.0f} MiB "
            f"sent to {nodes} nodes, {sent_bytes / MIB / elapsed_s:.0f} MiB/s each"
        )


def _reports(order: StageOrder, options: SlurmOptions, job: str, nodes: int) -> list[NodeReport]:
    printed = _everywhere(job, nodes, _python(options, staged_arguments(order)))
    try:
        return [msgspec.json.decode(line, type=NodeReport) for line in printed.splitlines()]
    except msgspec.MsgspecError as error:
        raise LauncherError(f"a node's report on the parcel cannot be read ({error})") from error


def _everywhere(job: str, nodes: int, argv: Sequence[str]) -> str:
    arguments = everywhere_arguments("aibench-stage", nodes, argv)
    return ask("srun", f"--jobid={job}", *arguments, timeout_s=TRANSFER_TIMEOUT_S)


def _python(options: SlurmOptions, arguments: Sequence[str]) -> tuple[str, ...]:
    settings = (f"{name}={value}" for name, value in python_environment().items())
    return ("env", *settings, options.python or sys.executable, *arguments)
