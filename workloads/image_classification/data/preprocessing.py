"""What happens to a batch on the device before the network sees it."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from workloads.image_classification.data.base import Preprocessing


class DevicePreprocessing:
    """Turns stored integers into the network's input.

    Args:
        preprocessing: What the data set needs.
        device: Where batches lie.
    """

    def __init__(self, preprocessing: Preprocessing, device: torch.device) -> None:
        self._mean = torch.tensor(preprocessing.mean, device=device).reshape(-1, 1, 1)
        self._std = torch.tensor(preprocessing.std, device=device).reshape(-1, 1, 1)
        self._crop_padding = preprocessing.crop_padding

    def normalise(self, images: Tensor) -> Tensor:
        """FP32 images of the same shape B×C×H×W, laid out in that order.

        torch 2.13 on processors crashes in the backward pass of narrow convolutions over images whose
        channels lie innermost, as decoders deliver them.
        """
        return ((images.float() - self._mean) / self._std).contiguous()

    def augment(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """The batch as it is trained with, still in integers; ``generator`` is the CPU's."""
        if self._crop_padding is None:
            return images
        return _crop_and_flip(images, self._crop_padding, generator)


def _crop_and_flip(images: Tensor, padding: int, generator: torch.Generator) -> Tensor:
    batch, _, height, width = images.shape
    offsets = torch.randint(0, 2 * padding + 1, (2, batch, 1), generator=generator)
    is_flipped = torch.rand(batch, 1, generator=generator) < 0.5
    columns = torch.where(is_flipped, torch.arange(width - 1, -1, -1), torch.arange(width))
    rows = (offsets[0] + torch.arange(height)).to(images.device)
    columns = (offsets[1] + columns).to(images.device)
    padded = F.pad(images, (padding,) * 4)
    picture = torch.arange(batch, device=images.device)[:, None, None]
    # Indexing around a slice puts the indexed axes first: B×H×W×C.
    return padded[picture, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
