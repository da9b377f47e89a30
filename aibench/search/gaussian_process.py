"""Gaussian-process regression with an unknown mean, to which results are added in blocks.

Source: Rasmussen and Williams, "Gaussian Processes for Machine Learning", 2006: algorithm 2.1, section 2.7
for the unknown mean, 4.2 for the Matérn kernel. Mean and signal variance have closed forms and follow every
result. Kept is the inverse of the Cholesky factor, not the factor: appending a row costs O(n²) either way,
and appending a block or predicting is then nothing but matrix products.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from aibench.search.triangular import FloatArray, inverse_of_lower, lower_times, times_lower

IntArray = npt.NDArray[np.int_]

DEFAULT_LENGTH_SCALE = 2.0
DEFAULT_NOISE = 0.1

# Signal variance of constant targets, in squared units of the targets.
MIN_VARIANCE = 1e-6

_JITTERS = (0.0, *(10.0**exponent for exponent in range(-9, -1)))
_MIN_PIVOT = 1e-10


@dataclass(frozen=True, kw_only=True, slots=True)
class Kernel:
    """Matérn 5/2 with one length scale per group of features, plus noise.

    Attributes:
        groups: Group of each feature, of shape (d,).
        length_scales: Length scale of each group.
        noise: Variance of the targets' noise as a multiple of the signal's.
    """

    groups: IntArray
    length_scales: tuple[float, ...]
    noise: float

    @classmethod
    def default(cls, groups: IntArray) -> Kernel:
        """The kernel before any result, for the group of each feature, numbered from 0."""
        num_groups = int(groups.max()) + 1
        return cls(groups=groups, length_scales=(DEFAULT_LENGTH_SCALE,) * num_groups, noise=DEFAULT_NOISE)

    def changed(self, position: int, factor: float) -> Kernel:
        """With the length scale at ``position`` times ``factor``; the noise if it is one too far."""
        if position == len(self.length_scales):
            return replace(self, noise=self.noise * factor)
        scales = list(self.length_scales)
        scales[position] *= factor
        return replace(self, length_scales=tuple(scales))

    def scaled(self, points: FloatArray) -> FloatArray:
        """Points of shape (n, d) in units of the length scales."""
        scales: FloatArray = np.array(self.length_scales)[self.groups]
        return points / scales


def correlations(a: FloatArray, b: FloatArray) -> FloatArray:
    """Correlations of scaled points of shapes (n, d) and (m, d), of shape (n, m)."""
    squares = (a * a).sum(axis=1)[:, None] + (b * b).sum(axis=1) - 2.0 * (a @ b.T)
    distances = np.sqrt(5.0 * np.maximum(squares, 0.0))
    return np.asarray((1.0 + distances + distances * distances / 3.0) * np.exp(-distances))


class Prediction(NamedTuple):
    """Means and standard deviations of the noiseless function, each of shape (m,)."""

    means: FloatArray
    deviations: FloatArray


class GaussianProcess:
    """The posterior over functions after some results. Equal points and equal targets are harmless.

    Args:
        points: Shape (n, d), n at least 1.
        targets: Shape (n,).
        kernel: Stays as it is.
        capacity: Results to make room for; more than these cost a copy whenever they double.

    Raises:
        ValueError: A point or target is not finite.
        numpy.linalg.LinAlgError: The covariance has no Cholesky factor even with the largest jitter.
    """

    def __init__(self, points: FloatArray, targets: FloatArray, kernel: Kernel, *, capacity: int = 0) -> None:
        _check_finite(points, targets)
        self.kernel = kernel
        self._num_results = len(targets)
        self._scaled_points = kernel.scaled(points)
        self._targets = np.array(targets)
        self._factorise()
        self._reserve(capacity)

    @property
    def num_results(self) -> int:
        """How many results it knows."""
        return self._num_results

    def append(self, points: FloatArray, targets: FloatArray) -> None:
        """Add b results, in O(b n²): points of shape (b, d), targets of shape (b,).

        Results that are too alike for that, which takes a kernel without noise, cost O(n³).

        Raises:
            ValueError: A point or target is not finite.
            numpy.linalg.LinAlgError: As for the class.
        """
        _check_finite(points, targets)
        n, end = self._num_results, self._num_results + len(targets)
        if end > len(self._targets):
            self._reserve(max(end, 2 * n))
        new = self.kernel.scaled(points)
        self._scaled_points[n:end] = new
        self._targets[n:end] = targets
        self._num_results = end
        inverse = self._inverse[:n, :n]
        rows = lower_times(inverse, correlations(self._scaled_points[:n], new)).T
        remainder = correlations(new, new) + self._nugget * np.eye(end - n) - rows @ rows.T
        factor = _factor(remainder)
        if factor is None:
            self._factorise()
            return
        block = inverse_of_lower(factor)
        self._inverse[n:end, :n] = -times_lower(block @ rows, inverse)
        self._inverse[n:end, n:end] = block
        self._white_ones[n:end] = block @ (1.0 - rows @ self._white_ones[:n])
        self._white_targets[n:end] = block @ (targets - rows @ self._white_targets[:n])

    def predict(self, points: FloatArray) -> Prediction:
        """The posterior at points of shape (m, d)."""
        n = self._num_results
        ones = self._white_ones[:n]
        covariances = correlations(self._scaled_points[:n], self.kernel.scaled(points))
        white = lower_times(self._inverse[:n, :n], covariances)
        mean, residuals, variance = self._moments()
        from_mean = (1.0 - ones @ white) ** 2 / (ones @ ones)
        variances = variance * (1.0 - (white * white).sum(axis=0) + from_mean)
        return Prediction(mean + residuals @ white, np.sqrt(np.maximum(variances, 0.0)))

    @property
    def log_likelihood(self) -> float:
        """Logarithm of the targets' density under the most likely mean and signal variance."""
        n = self._num_results
        _, residuals, variance = self._moments()
        log_determinant = -2.0 * np.log(np.diag(self._inverse)[:n]).sum()
        fit = residuals @ residuals / variance
        return float(-0.5 * (fit + n * math.log(2.0 * math.pi * variance) + log_determinant))

    def _moments(self) -> tuple[float, FloatArray, float]:
        """Mean, whitened residuals, signal variance."""
        ones, targets = self._white_ones[: self._num_results], self._white_targets[: self._num_results]
        mean = float(ones @ targets / (ones @ ones))
        residuals = targets - mean * ones
        return mean, residuals, max(float(residuals @ residuals) / self._num_results, MIN_VARIANCE)

    def _factorise(self) -> None:
        n, capacity = self._num_results, len(self._targets)
        points = self._scaled_points[:n]
        factor, jitter = cholesky(correlations(points, points) + self.kernel.noise * np.eye(n))
        self._nugget = self.kernel.noise + jitter
        self._inverse = inverse_of_lower(factor)
        self._white_ones = self._inverse.sum(axis=1)
        self._white_targets = self._inverse @ self._targets[:n]
        self._reserve(capacity)

    def _reserve(self, capacity: int) -> None:
        self._scaled_points = _grown(self._scaled_points, (capacity, self._scaled_points.shape[1]))
        self._targets = _grown(self._targets, (capacity,))
        self._white_ones = _grown(self._white_ones, (capacity,))
        self._white_targets = _grown(self._white_targets, (capacity,))
        self._inverse = _grown(self._inverse, (capacity, capacity))


def cholesky(matrix: FloatArray) -> tuple[FloatArray, float]:
    """The lower factor of a symmetric matrix with unit scale, and the jitter its diagonal needed for it.

    Raises:
        numpy.linalg.LinAlgError: No jitter is enough, so the matrix is no covariance.
    """
    for jitter in _JITTERS:
        factor = _factor(matrix + jitter * np.eye(len(matrix)))
        if factor is not None:
            return factor, jitter
    raise np.linalg.LinAlgError(
        f"covariance of {len(matrix)} results: not positive definite with jitter {_JITTERS[-1]:g}, "
        f"expected a valid kernel"
    )


def _factor(matrix: FloatArray) -> FloatArray | None:
    """The lower factor, None if a pivot is too small."""
    try:
        factor = np.asarray(np.linalg.cholesky(matrix), dtype=np.float64)
    except np.linalg.LinAlgError:
        return None
    return factor if np.diag(factor).min() ** 2 > _MIN_PIVOT else None


def _grown(array: FloatArray, shape: tuple[int, ...]) -> FloatArray:
    """The array in the corner of one of at least this shape; untouched zeros beside it take no memory."""
    if all(new <= old for new, old in zip(shape, array.shape, strict=True)):
        return array
    grown = np.zeros(shape)
    grown[tuple(slice(length) for length in array.shape)] = array
    return grown


def _check_finite(points: FloatArray, targets: FloatArray) -> None:
    if not (np.isfinite(points).all() and np.isfinite(targets).all()):
        raise ValueError("a point or target is not finite: expected finite numbers")
