"""CIFAR-10 from the binary files of its authors: https://www.cs.toronto.edu/~kriz/cifar.html."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from aibench.errors import DataError
from workloads.image_classification.data.base import ArraySource, Batch, Preprocessing

_FOLDER = "cifar-10-batches-bin"
_PICKLE_FOLDER = "cifar-10-batches-py"
_TRAIN_FILES = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
_VALIDATION_FILES = ("test_batch.bin",)
_SHAPE = (3, 32, 32)
_RECORD_BYTES = 1 + 3 * 32 * 32  # label, then the red, green and blue plane
_NUM_CLASSES = 10

# Mean and standard deviation of the 50,000 training images' pixels as commonly published on a scale of 0..1;
# padding by 4 and flipping: He et al., arXiv:1512.03385, section 4.2.
_PREPROCESSING = Preprocessing(
    mean=(0.4914 * 255, 0.4822 * 255, 0.4465 * 255),
    std=(0.2470 * 255, 0.2435 * 255, 0.2616 * 255),
    crop_padding=4,
)


def cifar10(data_dir: Path) -> ArraySource:
    """Open the data set in ``data_dir`` or in the folder ``cifar-10-batches-bin`` inside it.

    Raises:
        DataError: A file is missing or is no sequence of CIFAR-10 records, or only pickles are there.
    """
    folder = data_dir / _FOLDER if (data_dir / _FOLDER).is_dir() else data_dir
    _check_files(folder)
    return ArraySource(
        _read(folder, _TRAIN_FILES),
        _read(folder, _VALIDATION_FILES),
        name="cifar10",
        num_classes=_NUM_CLASSES,
        preprocessing=_PREPROCESSING,
    )


def _check_files(folder: Path) -> None:
    missing = [name for name in (*_TRAIN_FILES, *_VALIDATION_FILES) if not (folder / name).is_file()]
    if not missing:
        return
    has_pickles = (folder / _PICKLE_FOLDER).is_dir() or (folder / "data_batch_1").is_file()
    hint = "; the Python version there consists of pickles, which are not read" if has_pickles else ""
    raise DataError(f"{folder}: {missing[0]} is missing, expected the binary version of CIFAR-10{hint}")


def _read(folder: Path, names: tuple[str, ...]) -> Batch:
    records = np.concatenate([_records(folder / name) for name in names])
    return Batch(images=records[:, 1:].reshape(-1, *_SHAPE), labels=records[:, 0].astype(np.int64))


def _records(path: Path) -> npt.NDArray[np.uint8]:
    data = np.fromfile(path, dtype=np.uint8)
    if not data.size or data.size % _RECORD_BYTES:
        raise DataError(f"{path}: {data.size} bytes, expected a multiple of {_RECORD_BYTES}")
    records = data.reshape(-1, _RECORD_BYTES)
    if records[:, 0].max() >= _NUM_CLASSES:
        raise DataError(f"{path}: label {records[:, 0].max()}, expected 0 to {_NUM_CLASSES - 1}")
    return records
