"""Handwritten digits that come with scikit-learn: 1,797 grey images of 8×8 pixels, no download."""

from __future__ import annotations

import numpy as np

from workloads.image_classification.data.base import ArraySource, Batch, Preprocessing

_TRAIN_IMAGES = 1437
_NUM_CLASSES = 10
_SPLIT_SEED = 0

# Over the pixels (0 to 16) of the training images of this split, computed from them.
_PREPROCESSING = Preprocessing(mean=(4.8863,), std=(6.0138,))


def digits() -> ArraySource:
    """Open the data set: a fixed shuffle, 1,437 images to train with and 360 to validate."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    # RandomState and not a Generator: only its streams are frozen for all versions of NumPy.
    order = np.random.RandomState(_SPLIT_SEED).permutation(len(bunch.target))
    images = bunch.images.astype(np.uint8)[order, np.newaxis]
    labels = bunch.target.astype(np.int64)[order]
    return ArraySource(
        Batch(images=images[:_TRAIN_IMAGES], labels=labels[:_TRAIN_IMAGES]),
        Batch(images=images[_TRAIN_IMAGES:], labels=labels[_TRAIN_IMAGES:]),
        name="digits",
        num_classes=_NUM_CLASSES,
        preprocessing=_PREPROCESSING,
    )
