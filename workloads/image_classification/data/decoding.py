"""From an image file to pixels: cut and scaled by Pillow.

Training cuts a random part out of each image and flips it half of the time (Szegedy et al.,
arXiv:1409.4842, section 6); validation cuts the centre out of the image scaled to 256/224 of the size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from aibench.errors import DataError

if TYPE_CHECKING:
    import torch
    from PIL import Image

Pixels = npt.NDArray[np.uint8]
Box = tuple[int, int, int, int]  # left, upper, right, lower

_CROP_AREA = (0.08, 1.0)  # share of the image
_CROP_ASPECT = (3 / 4, 4 / 3)  # width by height
_CROP_ATTEMPTS = 10
_VALIDATION_SCALE = 256 / 224


@dataclass(frozen=True, kw_only=True, slots=True)
class Decoder:
    """Reads images by index, in whatever process it finds itself.

    Attributes:
        data_dir: What ``files`` are relative to.
        files: One per image.
        labels: Class of each.
        image_size: Side in pixels of what comes out.
        seed: Draws how images are cut; None cuts the centre.
    """

    data_dir: Path
    files: Sequence[str]
    labels: Sequence[int]
    image_size: int
    seed: int | None

    def __getitem__(self, index: int) -> tuple[Pixels, int]:
        from PIL import Image

        path = self.data_dir / self.files[index]
        try:
            with Image.open(path) as file:
                image = file.convert("RGB")
        except OSError as error:
            raise DataError(f"{path}: cannot be decoded: {error}") from error
        if self.seed is None:
            pixels = centre_crop(image, self.image_size)
        else:
            pixels = random_crop(image, self.image_size, np.random.default_rng((self.seed, index)))
        return pixels, self.labels[index]


def collate(images: Sequence[tuple[Pixels, int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Stack to B×C×H×W and B, as tensors because these travel between processes without being copied."""
    import torch

    pixels = np.stack([image.transpose(2, 0, 1) for image, _ in images])
    return torch.from_numpy(pixels), torch.tensor([label for _, label in images], dtype=torch.int64)


def random_crop(image: Image.Image, size: int, random: np.random.Generator) -> Pixels:
    """Cut a random box, scale it to ``size`` and flip it half of the time; shape H×W×C."""
    from PIL import Image

    box = random_box(image.width, image.height, random)
    pixels = np.asarray(image.resize((size, size), Image.Resampling.BILINEAR, box=box))
    return pixels[:, ::-1] if random.random() < 0.5 else pixels


def centre_crop(image: Image.Image, size: int) -> Pixels:
    """Scale the short side to 256/224 of ``size`` and cut the centre; shape H×W×C."""
    from PIL import Image

    scale = round(size * _VALIDATION_SCALE) / min(image.width, image.height)
    width, height = round(image.width * scale), round(image.height * scale)
    left, upper = (width - size) // 2, (height - size) // 2
    scaled = image.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(scaled.crop((left, upper, left + size, upper + size)))


def random_box(width: int, height: int, random: np.random.Generator) -> Box:
    """A box of random area and aspect; the largest centred square if none fits after some attempts."""
    for _ in range(_CROP_ATTEMPTS):
        area = width * height * random.uniform(*_CROP_AREA)
        aspect = math.exp(random.uniform(math.log(_CROP_ASPECT[0]), math.log(_CROP_ASPECT[1])))
        box_width, box_height = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < box_width <= width and 0 < box_height <= height:
            left = int(random.integers(0, width - box_width + 1))
            upper = int(random.integers(0, height - box_height + 1))
            return left, upper, left + box_width, upper + box_height
    side = min(width, height)
    left, upper = (width - side) // 2, (height - side) // 2
    return left, upper, left + side, upper + side
