# No postponed annotations here: DistributedDataParallel compares those of its hook with the types themselves.
"""How much of the gradients' exchange a rank waits for, on devices whose work the host itself does."""

import time

import torch
import torch.distributed as dist
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.nn.parallel import DistributedDataParallel


class ExposedCommunication:
    """Notes when a backward pass hands its last gradients over.

    What remains of the pass from then on is waiting for the other ranks; exchange before that is hidden
    behind computation. The gradients are averaged as without it.

    Args:
        model: The model whose backward passes are watched.
    """

    def __init__(self, model: DistributedDataParallel) -> None:
        self._handed_over_s = 0.0
        model.register_comm_hook(state=None, hook=self._average)

    def seconds(self) -> float:
        """Time since the last hand-over; ask right after the backward pass."""
        return time.perf_counter() - self._handed_over_s

    def _average(
        self,
        _: object,
        bucket: dist.GradBucket,  # type: ignore[name-defined]
    ) -> torch.futures.Future[torch.Tensor]:
        assert dist.group.WORLD is not None
        average = allreduce_hook(dist.group.WORLD, bucket)
        self._handed_over_s = time.perf_counter()
        return average
