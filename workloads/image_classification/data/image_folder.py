"""Images in folders, one per class: ``train/<class>/*.jpeg`` and ``val/<class>/*.jpeg``, as ImageNet's."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aibench.architecture import Shape
from aibench.errors import DataError
from workloads.image_classification.data.base import Batch, Facts, ImageSource, IndexArray, Preprocessing
from workloads.image_classification.data.decoding import Decoder, collate

_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".webp")
_TRAIN = "train"
_VALIDATION = "val"
_CHANNELS = 3

# Mean and standard deviation of ImageNet's training pixels as torchvision publishes them, on a scale of 0..1.
_PREPROCESSING = Preprocessing(
    mean=(0.485 * 255, 0.456 * 255, 0.406 * 255), std=(0.229 * 255, 0.224 * 255, 0.225 * 255)
)


@dataclass(frozen=True, slots=True)
class _Split:
    """Files relative to the folder of the data set, and the class of each."""

    files: list[str]
    labels: list[int]


class ImageFolder(ImageSource):
    """Files that are decoded when they are asked for.

    Args:
        data_dir: Folder that holds ``train`` and ``val``.
        image_size: Side in pixels that images are cut to.
        loader_processes: Processes that decode; 0 decodes in the process that asks.

    Raises:
        DataError: A folder is missing or holds no classes or images, or both do not hold the same classes.
    """

    def __init__(self, data_dir: Path, *, image_size: int, loader_processes: int) -> None:
        self._data_dir = data_dir
        self._loader_processes = loader_processes
        train, validation = (_list_classes(data_dir / split) for split in (_TRAIN, _VALIDATION))
        _check_same_classes(data_dir, train, validation)
        self._train = _split(_TRAIN, train)
        self._validation = _split(_VALIDATION, validation)
        self.facts = Facts(
            name="image_folder",
            train_images=len(self._train.files),
            validation_images=len(self._validation.files),
            input_shape=Shape(_CHANNELS, image_size, image_size),
            num_classes=len(train),
            preprocessing=_PREPROCESSING,
        )

    def fingerprint(self) -> str:
        """SHA-256 of the sorted relative paths and sizes of all files."""
        digest = hashlib.sha256()
        for name in sorted(self._train.files + self._validation.files):
            size_bytes = (self._data_dir / name).stat().st_size
            digest.update(os.fsencode(f"{name}\0{size_bytes}\n"))
        return digest.hexdigest()

    def train_batches(self, plan: Iterable[IndexArray], *, seed: int) -> Iterator[Batch]:
        """Decoded batches, cut at random: the same for a seed and an image, whichever process decodes it."""
        return self._batches(self._decoder(self._train, seed), plan)

    def validation_batches(self, plan: Iterable[IndexArray]) -> Iterator[Batch]:
        """Decoded batches, cut from the centre."""
        return self._batches(self._decoder(self._validation, None), plan)

    def _decoder(self, split: _Split, seed: int | None) -> Decoder:
        return Decoder(
            data_dir=self._data_dir,
            files=split.files,
            labels=split.labels,
            image_size=self.facts.input_shape.height,
            seed=seed,
        )

    def _batches(self, decoder: Decoder, plan: Iterable[IndexArray]) -> Iterator[Batch]:
        from torch.utils.data import DataLoader

        dataset: Any = decoder  # indexing is all that is asked of it; a base class would import torch
        loader = DataLoader(
            dataset,
            batch_sampler=[indices.tolist() for indices in plan],
            num_workers=self._loader_processes,
            collate_fn=collate,
        )
        for images, labels in loader:
            yield Batch(images=images.numpy(), labels=labels.numpy())


def _list_classes(folder: Path) -> dict[str, list[str]]:
    """File names by class, both sorted."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder, expected {_TRAIN}/<class>/ and {_VALIDATION}/<class>/")
    with os.scandir(folder) as entries:
        classes = sorted(entry.name for entry in entries if entry.is_dir() and _is_visible(entry.name))
    if not classes:
        raise DataError(f"{folder}: holds no folders, expected one per class")
    return {name: _list_images(folder / name) for name in classes}


def _list_images(folder: Path) -> list[str]:
    names = sorted(
        name for name in os.listdir(folder) if name.lower().endswith(_SUFFIXES) and _is_visible(name)
    )
    if not names:
        raise DataError(f"{folder}: holds no images, expected files ending in {', '.join(_SUFFIXES)}")
    return names


def _is_visible(name: str) -> bool:
    return not name.startswith(".")


def _check_same_classes(
    data_dir: Path, train: Mapping[str, Sequence[str]], validation: Mapping[str, Sequence[str]]
) -> None:
    differing = sorted(train.keys() ^ validation.keys())
    if differing:
        where = _TRAIN if differing[0] in train else _VALIDATION
        raise DataError(
            f"{data_dir}: {len(differing)} class(es) not in both {_TRAIN} and {_VALIDATION}, "
            f"such as {differing[0]!r} in {where} only"
        )


def _split(name: str, classes: Mapping[str, Sequence[str]]) -> _Split:
    return _Split(
        files=[f"{name}/{class_name}/{file}" for class_name, files in classes.items() for file in files],
        labels=[label for label, files in enumerate(classes.values()) for _ in files],
    )
