"""What the ranks of a worker tell each other between training steps."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import nn

from aibench.api.workload import Gang
from aibench.errors import TrialError

_MAX_PROBLEM_BYTES = 512


class Collectives:
    """Exchanges over the default process group; all ranks make the same calls in the same order.

    A gang of one exchanges nothing.
    """

    def __init__(self, gang: Gang) -> None:
        self._num_ranks = gang.num_ranks
        self._device = torch.device(gang.device)

    def sum_integers(self, values: Sequence[int]) -> list[int]:
        """Element-wise sums over all ranks."""
        if self._num_ranks == 1:
            return list(values)
        sums = torch.tensor(values, dtype=torch.int64, device=self._device)
        dist.all_reduce(sums)
        return [int(value) for value in sums.tolist()]

    def gather_floats(self, values: Sequence[float]) -> list[list[float]]:
        """The values of every rank, by rank."""
        if self._num_ranks == 1:
            return [list(values)]
        return [row.tolist() for row in self._gather(torch.tensor(values, dtype=torch.float64))]

    def agree(self, problem: str) -> None:
        """Go on if no rank has a problem, which is what an empty text says.

        Raises:
            TrialError: Some rank has one; raised on all of them with the text of the first.
        """
        if self._num_ranks == 1:
            texts = [problem]
        else:
            data = problem.encode()[:_MAX_PROBLEM_BYTES].ljust(_MAX_PROBLEM_BYTES, b"\0")
            rows = self._gather(torch.tensor(list(data), dtype=torch.uint8))
            texts = [bytes(row.tolist()).rstrip(b"\0").decode(errors="ignore") for row in rows]
        for rank, text in enumerate(texts):
            if text:
                raise TrialError(f"rank {rank}: {text}" if len(texts) > 1 else text)

    def share_buffers(self, module: nn.Module) -> None:
        """Give all ranks the running statistics of rank 0."""
        buffers = [buffer for buffer in module.buffers() if buffer.is_floating_point()]
        if self._num_ranks == 1 or not buffers:
            return
        packed = torch.cat([buffer.flatten() for buffer in buffers])
        dist.broadcast(packed, src=0)
        for buffer, part in zip(
            buffers, torch.split(packed, [buffer.numel() for buffer in buffers]), strict=True
        ):
            buffer.copy_(part.view_as(buffer))

    def _gather(self, values: torch.Tensor) -> list[torch.Tensor]:
        mine = values.to(self._device)
        rows = [torch.empty_like(mine) for _ in range(self._num_ranks)]
        dist.all_gather(rows, mine)
        return rows
