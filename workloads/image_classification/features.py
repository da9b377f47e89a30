"""What distinguishes one labelled image data set from another, as numbers; without torch."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from aibench.architecture import Architecture
from aibench.counting import count
from workloads.image_classification.data import Batch, ImageSource, IndexArray

MAX_IMAGES = 2000
MAX_SIDE = 32
_MAX_PROBE_IMAGES = 1000
_MAX_PROBE_SIDE = 16
_READ_IMAGES = 100
_SAMPLE_SEED = 0
_NUM_FOLDS = 4
_NUM_NEIGHBOURS = 5
_PROBE_PENALTY = 10.0  # of the linear probe, on standardised pixels

_Floats = NDArray[np.float64]


def data_features(source: ImageSource) -> Mapping[str, float]:
    """Features of the training images, of at most 2,000 of them at 32 pixels.

    Sizes are natural logarithms, levels shares of the largest stored value, accuracies shares of 1.

    Raises:
        DataError: An image cannot be read.
    """
    sample = take_sample(source)
    facts = source.facts
    return {
        "log_train_images": math.log(facts.train_images),
        "log_classes": math.log(facts.num_classes),
        "log_images_per_class": math.log(facts.train_images / facts.num_classes),
        "log_side": math.log(facts.input_shape.height),
        "channels": float(facts.input_shape.channels),
        "class_balance": class_balance(sample.labels, facts.num_classes),
        **_pixel_features(sample.images.astype(np.float64)),
        **_neighbourhood_features(_probe_sample(sample)),
    }


def size_features(architecture: Architecture) -> Mapping[str, float]:
    """Natural logarithms of a network's parameters and training operations per image.

    Proxies that are hard to beat: Li et al. (ZiCo), arXiv:2301.11300.
    """
    counted = count(architecture)
    return {
        "log_parameters": math.log(counted.parameters),
        "log_train_ops": math.log(counted.aiperf_ops.train),
    }


def take_sample(source: ImageSource) -> Batch:
    """Training images drawn at random, shrunk to at most 32 pixels; the same for the same data."""
    chosen = sample_plan(source, MAX_IMAGES)
    plan = [chosen[first : first + _READ_IMAGES] for first in range(0, len(chosen), _READ_IMAGES)]
    parts = [
        Batch(images=shrunk(batch.images, MAX_SIDE), labels=batch.labels)
        for batch in source.train_batches(plan, seed=_SAMPLE_SEED)
    ]
    return Batch(
        images=np.concatenate([part.images for part in parts]),
        labels=np.concatenate([part.labels for part in parts]),
    )


def sample_plan(source: ImageSource, max_images: int) -> IndexArray:
    """Numbers of training images drawn at random; the same for the same number of images."""
    order = np.random.RandomState(_SAMPLE_SEED).permutation(source.facts.train_images)
    return order[:max_images].astype(np.int64)


def shrunk(images: NDArray[np.uint8], max_side: int) -> NDArray[np.uint8]:
    """Means of equal squares, as few pixels wide as it takes; what is left at the edges is cut off."""
    count, channels, height, width = images.shape
    block = -(-max(height, width) // max_side)
    if block == 1:
        return images
    rows, columns = max(height // block, 1), max(width // block, 1)
    cut = images[:, :, : rows * block, : columns * block]
    squares = cut.reshape(count, channels, rows, cut.shape[2] // rows, columns, cut.shape[3] // columns)
    means: NDArray[np.uint8] = squares.mean(axis=(3, 5)).round().astype(np.uint8)
    return means


def class_balance(labels: NDArray[np.int64], num_classes: int) -> float:
    """Entropy of the classes over that of equal shares: 1 if all are as frequent, 0 if only one occurs."""
    if num_classes == 1:
        return 1.0
    shares = np.bincount(labels, minlength=num_classes) / len(labels)
    shares = shares[shares > 0]
    return float(-(shares * np.log(shares)).sum() / math.log(num_classes))


def intrinsic_dimension(points: _Floats) -> float:
    """Dimension of the manifold that points lie on, by their two nearest neighbours.

    With r the ratio of the distances to the second and the first neighbour, 1/d is the mean of ln r: the
    maximum-likelihood estimate for the law of Facco et al., Scientific Reports 7 (2017) 12140. Points that
    have a duplicate are left out.

    Args:
        points: Shape [points, coordinates].

    Returns:
        0 if fewer than two points are left, or all are equally far from each other.
    """
    from sklearn.neighbors import NearestNeighbors

    distinct = np.unique(points, axis=0)
    if len(distinct) < 3:
        return 0.0
    distances, _ = NearestNeighbors(n_neighbors=3).fit(distinct).kneighbors(distinct)
    spread = float(np.log(distances[:, 2] / distances[:, 1]).sum())
    return (len(distinct) - 1) / spread if spread > 0 else 0.0


def linear_probe_accuracy(points: _Floats, labels: NDArray[np.int64]) -> float:
    """Accuracy of a linear classifier (ridge regression on the classes), cross-validated.

    Args:
        points: Shape [points, coordinates], standardised.
        labels: Shape [points].
    """
    from sklearn.linear_model import RidgeClassifier

    return _cross_validated(RidgeClassifier(alpha=_PROBE_PENALTY), points, labels)


def neighbour_accuracy(points: _Floats, labels: NDArray[np.int64]) -> float:
    """Accuracy of the vote of the five nearest neighbours, cross-validated.

    Args:
        points: Shape [points, coordinates], at least eight.
        labels: Shape [points].
    """
    from sklearn.neighbors import KNeighborsClassifier

    return _cross_validated(KNeighborsClassifier(n_neighbors=_NUM_NEIGHBOURS), points, labels)


def _cross_validated(classifier: object, points: _Floats, labels: NDArray[np.int64]) -> float:
    from sklearn.model_selection import KFold, cross_val_score

    # Not stratified: a class may have less than one image per fold.
    folds = KFold(n_splits=_NUM_FOLDS, shuffle=True, random_state=_SAMPLE_SEED)
    return float(cross_val_score(classifier, points, labels, cv=folds).mean())


def _pixel_features(images: _Floats) -> dict[str, float]:
    largest = max(images.max(), 1.0)
    variance = max(images.var(), np.finfo(float).tiny)
    return {
        "mean_level": float(images.mean() / largest),
        "deviation": float(images.std() / largest),
        "channel_difference": float(images.mean(axis=(0, 2, 3)).std() / largest),
        "contrast_share": float(images.var(axis=(1, 2, 3)).mean() / variance),
        "edge_energy": float(_edge_energy(images) / variance),
    }


def _edge_energy(images: _Floats) -> float:
    """Mean squared difference of neighbouring pixels, in both directions; 0 for images of one pixel."""
    steps = [np.diff(images, axis=axis) for axis in (2, 3)]
    return sum(float((step**2).mean()) for step in steps if step.size)


def _probe_sample(sample: Batch) -> Batch:
    images = shrunk(sample.images[:_MAX_PROBE_IMAGES], _MAX_PROBE_SIDE)
    return Batch(images=images, labels=sample.labels[:_MAX_PROBE_IMAGES])


def _neighbourhood_features(sample: Batch) -> dict[str, float]:
    """What the pixels alone say of the classes; nothing where a fold has less than an image of each."""
    points = sample.images.reshape(len(sample.images), -1).astype(np.float64)
    features = {"intrinsic_dimension": intrinsic_dimension(points)}
    num_classes = len(np.unique(sample.labels))
    if num_classes > 1 and len(points) >= _NUM_FOLDS * num_classes:
        standardised = (points - points.mean(axis=0)) / np.maximum(points.std(axis=0), 1e-9)
        features["linear_probe_accuracy"] = linear_probe_accuracy(standardised, sample.labels)
        features["neighbour_accuracy"] = neighbour_accuracy(points, sample.labels)
    return features
