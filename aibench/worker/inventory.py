"""What a node has to compute with: accelerators as torch sees them, and the processor."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import msgspec
import psutil
import torch

from aibench.api.events import Device
from aibench.api.launcher import AUTO, CPU
from aibench.errors import LauncherError


class Inventory(msgspec.Struct, frozen=True, kw_only=True):
    """Devices of one node. ``cores`` are those this process may use."""

    accelerators: tuple[Device, ...]
    processor: Device
    cores: int


def take_inventory() -> Inventory:
    """Look at this node."""
    return Inventory(
        accelerators=tuple(_accelerators()),
        processor=Device(kind=CPU, name=_processor_name(), memory_bytes=psutil.virtual_memory().total),
        cores=len(os.sched_getaffinity(0)),
    )


def place_rank(inventory: Inventory, wanted: str, position: int) -> tuple[str, Device]:
    """Choose the device of a rank: its torch name and its description.

    Args:
        wanted: ``cpu``, ``auto``, or a device type of torch.
        position: Number of the rank among all ranks of all workers of this node.

    Raises:
        LauncherError: The node has no such device.
    """
    kinds = {device.kind for device in inventory.accelerators}
    if wanted == CPU or (wanted == AUTO and not kinds):
        return CPU, inventory.processor
    if wanted != AUTO and wanted not in kinds:
        raise LauncherError(
            f"device {wanted!r}: this node has {', '.join(sorted(kinds)) or 'no accelerator'}"
        )
    index = position % len(inventory.accelerators)
    device = inventory.accelerators[index]
    return f"{device.kind}:{index}", device


def _accelerators() -> list[Device]:
    if not torch.accelerator.is_available():
        return []
    current = torch.accelerator.current_accelerator()
    assert current is not None
    module = torch.get_device_module(current)
    properties = [module.get_device_properties(i) for i in range(torch.accelerator.device_count())]
    return [Device(kind=current.type, name=p.name, memory_bytes=p.total_memory) for p in properties]


def _processor_name() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
