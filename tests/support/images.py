"""A small image folder of two classes that anything can tell apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PIL import Image


def image_workload(folder: Path, *, side: int) -> dict[str, Any]:
    """The section ``workload`` that trains a tiny network on such a folder."""
    return {
        "name": "image_classification",
        "data": "image_folder",
        "data_dir": str(folder),
        "image_size": side,
        "initial": "resnet18",
        "width": 4,
    }


def make_images(folder: Path, *, side: int) -> None:
    """Write ``train`` and ``val`` with a dark and a light class."""
    for split, count in (("train", 8), ("val", 4)):
        for name, value in (("dark", 20), ("light", 230)):
            (folder / split / name).mkdir(parents=True)
            for number in range(count):
                image = Image.new("RGB", (side, side), (value, value, number))
                image.save(folder / split / name / f"{number}.png")
