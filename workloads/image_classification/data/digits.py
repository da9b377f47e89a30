"""Handwritten digits that come with scikit-learn: 1,797 grey images of 8×8 pixels, no download."""

from __future__ import annotations

import gzip
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aibench.errors import DataError
from workloads.image_classification.data.base import ArraySource, Batch, Preprocessing

_FILE = Path("datasets", "data", "digits.csv.gz")
_NUM_IMAGES = 1797
_TRAIN_IMAGES = 1437
_NUM_CLASSES = 10
_SIDE = 8
_SPLIT_SEED = 0

# Over the pixels (0 to 16) of the training images of this split, computed from them.
_PREPROCESSING = Preprocessing(mean=(4.8863,), std=(6.0138,))


def digits() -> ArraySource:
    """Open the data set: a fixed shuffle, 1,437 images to train with and 360 to validate.

    Raises:
        DataError: scikit-learn is absent, or its file is not the one that is known.
    """
    table = _read_table()
    # RandomState and not a Generator: only its streams are frozen for all versions of NumPy.
    order = np.random.RandomState(_SPLIT_SEED).permutation(len(table))
    images = table[order, :-1].reshape(-1, 1, _SIDE, _SIDE)
    labels = table[order, -1].astype(np.int64)
    return ArraySource(
        Batch(images=images[:_TRAIN_IMAGES], labels=labels[:_TRAIN_IMAGES]),
        Batch(images=images[_TRAIN_IMAGES:], labels=labels[_TRAIN_IMAGES:]),
        name="digits",
        num_classes=_NUM_CLASSES,
        preprocessing=_PREPROCESSING,
    )


def _read_table() -> NDArray[np.uint8]:
    """One row per image, 64 pixels and the label.

    Read as a file: importing scikit-learn for it takes a second and 100 MB in every process.
    """
    package = find_spec("sklearn")
    if package is None or not package.submodule_search_locations:
        raise DataError("data digits: scikit-learn is not installed, expected it for its digits.csv.gz")
    path = Path(package.submodule_search_locations[0]) / _FILE
    try:
        with gzip.open(path, "rt", encoding="ascii") as file:
            table = np.loadtxt(file, delimiter=",", dtype=np.uint8)
    except (OSError, ValueError) as error:
        raise DataError(f"data digits: {path}: cannot be read ({error})") from error
    if table.shape != (_NUM_IMAGES, _SIDE * _SIDE + 1):
        raise DataError(f"data digits: {path}: has shape {table.shape}, expected {_NUM_IMAGES} digits")
    return table
