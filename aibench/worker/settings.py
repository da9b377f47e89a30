"""What a worker is told when it is started."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerSettings:
    """Everything that a worker is told by its launcher; all else comes from the master.

    Attributes:
        device: ``cpu``, ``auto``, ``simulated``, or a device type of torch.
        first_device: Accelerators of the node that other workers use before this one's.
        num_nodes: Nodes that its gang spans; a divisor of ``num_ranks``.
    """

    control_file: Path
    worker: str
    num_ranks: int
    device: str
    first_device: int
    num_nodes: int = 1
