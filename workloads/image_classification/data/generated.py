"""Made-up images of a chosen hardness: smooth coloured patterns per class, moved, mirrored and overlaid."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from workloads.image_classification.data.base import ArraySource, Batch, Preprocessing

_CHANNELS = 3
_GRID_SIDE = 5  # random values along a side of a pattern; what lies between them is interpolated
_MAX_SHIFT_SHARE = 8  # a pattern moves by up to an eighth of the side in every direction
_HALF_RANGE = 128
_NOISE_HALF_RANGE = 16
_SHARES = 256  # hardness and contrast count in steps of 1/256
_LEAST_CONTRAST = 128
_IMAGES_PER_DRAW = 512

_Integers = NDArray[np.int32]


def generated(
    *,
    image_size: int,
    train_images: int,
    validation_images: int,
    num_classes: int,
    hardness: float,
    seed: int,
) -> ArraySource:
    """Make the data set up; the same arguments give the same images on every machine.

    An image is (1 - hardness) · the pattern of its class + hardness · a pattern that no other image has, with
    a contrast of its own and noise in every pixel. With hardness 0 the classes are plain to see, with
    hardness 1 nothing of them is left. Only whole numbers are computed with: no machine rounds differently.

    Args:
        image_size: Side in pixels; images have three channels.
        train_images: Number of images to train with.
        validation_images: Number of images to validate with.
        num_classes: Number of patterns.
        hardness: Share of the image that says nothing of its class, 0 to 1.
        seed: Of patterns and images, below 2³².
    """
    canvas_side = image_size + 2 * (image_size // _MAX_SHIFT_SHARE)
    # RandomState and not a Generator: only its streams are frozen for all versions of NumPy.
    patterns = _smooth_patterns(np.random.RandomState([seed, 0]), num_classes, side=canvas_side)
    clutter_share = round(hardness * _SHARES)
    train, validation = (
        _images(np.random.RandomState([seed, stream]), patterns, num_images, image_size, clutter_share)
        for stream, num_images in ((1, train_images), (2, validation_images))
    )
    return ArraySource(
        train,
        validation,
        name="generated",
        num_classes=num_classes,
        preprocessing=_preprocessing(train),
        is_synthetic=True,
    )


def _images(
    random: np.random.RandomState, patterns: _Integers, num_images: int, side: int, clutter_share: int
) -> Batch:
    # In turn and then shuffled: as balanced as the number of images allows.
    labels = random.permutation(np.arange(num_images, dtype=np.int64) % len(patterns))
    images = np.empty((num_images, _CHANNELS, side, side), dtype=np.uint8)
    for first in range(0, num_images, _IMAGES_PER_DRAW):
        part = slice(first, first + _IMAGES_PER_DRAW)
        images[part] = _draw(random, patterns, labels[part], side, clutter_share)
    return Batch(images=images, labels=labels)


def _draw(
    random: np.random.RandomState,
    patterns: _Integers,
    labels: NDArray[np.int64],
    side: int,
    clutter_share: int,
) -> NDArray[np.uint8]:
    num_images = len(labels)
    signal = _moved(random, patterns[labels], side)
    clutter = _smooth_patterns(random, num_images, side=side)
    contrast = random.randint(_LEAST_CONTRAST, _SHARES + 1, size=(num_images, 1, 1, 1), dtype=np.int32)
    noise = random.randint(-_NOISE_HALF_RANGE, _NOISE_HALF_RANGE + 1, size=signal.shape, dtype=np.int32)
    mixed = (_SHARES - clutter_share) * signal + clutter_share * clutter
    values: _Integers = _HALF_RANGE + contrast * mixed // _SHARES**2 + noise
    return values.clip(0, 2 * _HALF_RANGE - 1).astype(np.uint8)


def _moved(random: np.random.RandomState, canvases: _Integers, side: int) -> _Integers:
    """Cut each image out of its canvas at a random place, and mirror half of them."""
    num_images, room = len(canvases), canvases.shape[-1] - side + 1
    tops, lefts = random.randint(0, room, size=(2, num_images, 1), dtype=np.int64)
    is_mirrored = random.randint(0, 2, size=(num_images, 1), dtype=np.int64) == 1
    rows = tops + np.arange(side)
    columns = lefts + np.where(is_mirrored, np.arange(side)[::-1], np.arange(side))
    image = np.arange(num_images)[:, None, None]
    # Indexing around a slice puts the indexed axes first: N×H×W×C.
    return canvases[image, :, rows[:, :, None], columns[:, None, :]].transpose(0, 3, 1, 2)


def _smooth_patterns(random: np.random.RandomState, count: int, *, side: int) -> _Integers:
    """Random values on a coarse grid, interpolated linearly; count×C×side×side from -128 to 127."""
    shape = (count, _CHANNELS, _GRID_SIDE, _GRID_SIDE)
    grid = random.randint(-_HALF_RANGE, _HALF_RANGE, size=shape, dtype=np.int32)
    rows = _interpolated(grid, side, axis=2)
    return _interpolated(rows, side, axis=3)


def _interpolated(values: _Integers, side: int, *, axis: int) -> _Integers:
    steps = max(side - 1, 1)
    lower, weight = np.divmod(np.arange(side, dtype=np.int32) * (_GRID_SIDE - 1), steps)
    upper = np.minimum(lower + 1, _GRID_SIDE - 1)
    weight = weight.reshape([-1 if at == axis else 1 for at in range(values.ndim)])
    mixed = (steps - weight) * values.take(lower, axis) + weight * values.take(upper, axis)
    interpolated: _Integers = mixed // steps
    return interpolated


def _preprocessing(train: Batch) -> Preprocessing:
    """Mean and deviation of each channel, from whole sums."""
    means, deviations = zip(*_channel_statistics(train.images), strict=True)
    return Preprocessing(mean=means, std=deviations)


def _channel_statistics(images: NDArray[np.uint8]) -> Iterator[tuple[float, float]]:
    for channel in range(_CHANNELS):
        counts = np.bincount(images[:, channel].ravel(), minlength=2 * _HALF_RANGE)
        values, total = np.arange(len(counts)), int(counts.sum())
        mean = int(counts @ values) / total
        variance = int(counts @ values**2) / total - mean**2
        yield mean, max(variance, 1.0) ** 0.5
