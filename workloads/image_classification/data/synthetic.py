"""Made-up images that can be learned: a coarse pattern per class under uniform noise."""

from __future__ import annotations

import numpy as np

from workloads.image_classification.data.base import ArraySource, Batch, Preprocessing

_SEED = 0
_CHANNELS = 3
_PATTERN_SIDE = 4
_HALF_RANGE = 128  # pattern and noise take half of the 256 values each, so that their sum never overflows

# Sum of two uniform variables on 0..127: mean 2·63.5, variance 2·(128² - 1)/12.
_PREPROCESSING = Preprocessing(mean=(127.0,) * _CHANNELS, std=(52.25,) * _CHANNELS)


def synthetic(*, image_size: int, train_images: int, validation_images: int, num_classes: int) -> ArraySource:
    """Make the data set up; the same sizes give the same images.

    Args:
        image_size: Side in pixels; images have three channels.
        train_images: Number of images to train with.
        validation_images: Number of images to validate with.
        num_classes: Number of patterns.
    """
    # RandomState and not a Generator: only its streams are frozen for all versions of NumPy.
    random = np.random.RandomState(_SEED)
    shape = (num_classes, _CHANNELS, _PATTERN_SIDE, _PATTERN_SIDE)
    coarse = random.randint(0, _HALF_RANGE, size=shape, dtype=np.uint8)
    scale = -(-image_size // _PATTERN_SIDE)
    patterns = coarse.repeat(scale, axis=2).repeat(scale, axis=3)[:, :, :image_size, :image_size]

    def draw(num_images: int) -> Batch:
        labels = random.randint(0, num_classes, size=num_images, dtype=np.int64)
        images = random.randint(0, _HALF_RANGE, size=(num_images, *patterns.shape[1:]), dtype=np.uint8)
        images += patterns[labels]
        return Batch(images=images, labels=labels)

    return ArraySource(
        draw(train_images),
        draw(validation_images),
        name="synthetic",
        num_classes=num_classes,
        preprocessing=_PREPROCESSING,
        is_synthetic=True,
    )
