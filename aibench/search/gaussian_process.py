"""Gaussian-process regression with an unknown mean, one added result at a time.

Source: Rasmussen and Williams, "Gaussian Processes for Machine Learning", 2006: algorithm 2.1, section 2.7
for the unknown mean, 4.2 for the Matérn kernel, 5.4 for the marginal likelihood. Mean and signal variance
have closed forms and follow every result. Kept is the inverse of the Cholesky factor, not the factor:
appending a row costs O(n²) either way, and a prediction is then nothing but matrix products.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int_]

DEFAULT_LENGTH_SCALE = 2.0
DEFAULT_NOISE = 0.1
PRIOR_OCTAVES = 2.0

# Signal variance of constant targets, in squared units of the targets.
MIN_VARIANCE = 1e-6

_JITTERS = (0.0, *(10.0**exponent for exponent in range(-9, -1)))
_MIN_PIVOT = 1e-10
_BLOCK = 64


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

    Raises:
        ValueError: A point or target is not finite.
        numpy.linalg.LinAlgError: The covariance has no Cholesky factor even with the largest jitter.
    """

    def __init__(self, points: FloatArray, targets: FloatArray, kernel: Kernel) -> None:
        _check_finite(points, targets)
        self.kernel = kernel
        self._num_results = len(targets)
        self._scaled_points = kernel.scaled(points)
        self._targets = np.array(targets)
        self._factorise()

    def append(self, point: FloatArray, target: float) -> None:
        """Add a result, in O(n²): point of shape (d,).

        Raises:
            ValueError: The point or target is not finite.
            numpy.linalg.LinAlgError: As for the class.
        """
        _check_finite(point, np.array(target))
        n = self._num_results
        if n == len(self._targets):
            self._reserve(2 * n)
        self._scaled_points[n] = self.kernel.scaled(point)
        self._targets[n] = target
        self._num_results = n + 1
        inverse = self._inverse[:n, :n]
        row = inverse @ correlations(self._scaled_points[:n], self._scaled_points[n : n + 1])[:, 0]
        pivot = 1.0 + self._nugget - row @ row
        if pivot < _MIN_PIVOT:
            self._factorise()
            return
        root = math.sqrt(pivot)
        self._inverse[n, :n] = -(row @ inverse) / root
        self._inverse[n, n] = 1.0 / root
        self._white_ones[n] = (1.0 - row @ self._white_ones[:n]) / root
        self._white_targets[n] = (target - row @ self._white_targets[:n]) / root

    def predict(self, points: FloatArray) -> Prediction:
        """The posterior at points of shape (m, d)."""
        n = self._num_results
        ones = self._white_ones[:n]
        covariances = correlations(self._scaled_points[:n], self.kernel.scaled(points))
        white = self._inverse[:n, :n] @ covariances
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
        n = self._num_results
        points = self._scaled_points[:n]
        factor, jitter = cholesky(correlations(points, points) + self.kernel.noise * np.eye(n))
        self._nugget = self.kernel.noise + jitter
        self._inverse = _inverse_of_lower(factor)
        self._white_ones = self._inverse.sum(axis=1)
        self._white_targets = self._inverse @ self._targets[:n]
        self._reserve(len(self._targets))

    def _reserve(self, size: int) -> None:
        def grown(array: FloatArray) -> FloatArray:
            return np.pad(array, [(0, size - len(array))] + [(0, 0)] * (array.ndim - 1))

        self._scaled_points = grown(self._scaled_points)
        self._targets = grown(self._targets)
        self._white_ones = grown(self._white_ones)
        self._white_targets = grown(self._white_targets)
        self._inverse = np.pad(self._inverse, (0, size - len(self._inverse)))


def cholesky(matrix: FloatArray) -> tuple[FloatArray, float]:
    """The lower factor of a symmetric matrix with unit scale, and the jitter its diagonal needed for it.

    Raises:
        numpy.linalg.LinAlgError: No jitter is enough, so the matrix is no covariance.
    """
    for jitter in _JITTERS:
        try:
            factor = np.linalg.cholesky(matrix + jitter * np.eye(len(matrix)))
        except np.linalg.LinAlgError:
            continue
        if np.diag(factor).min() ** 2 > _MIN_PIVOT:
            return np.asarray(factor, dtype=np.float64), jitter
    raise np.linalg.LinAlgError(
        f"covariance of {len(matrix)} results: not positive definite with jitter {_JITTERS[-1]:g}, "
        f"expected a valid kernel"
    )


def fit_kernel(points: FloatArray, targets: FloatArray, start: Kernel) -> Kernel:
    """One sweep over the length scales and the noise, each doubled or halved if that is more likely.

    Wide log-normal priors around the defaults keep few results from leading to extremes.

    Args:
        points: Shape (n, d).
        targets: Shape (n,).
        start: Where the sweep begins.
    """
    best, best_density = start, _log_posterior(points, targets, start)
    for position in range(len(start.length_scales) + 1):
        for kernel in (best.changed(position, 2.0), best.changed(position, 0.5)):
            density = _log_posterior(points, targets, kernel)
            if density > best_density:
                best, best_density = kernel, density
                break
    return best


def _log_posterior(points: FloatArray, targets: FloatArray, kernel: Kernel) -> float:
    octaves = [math.log2(scale / DEFAULT_LENGTH_SCALE) for scale in kernel.length_scales]
    octaves.append(math.log2(kernel.noise / DEFAULT_NOISE))
    log_prior = -0.5 * sum((distance / PRIOR_OCTAVES) ** 2 for distance in octaves)
    return GaussianProcess(points, targets, kernel).log_likelihood + log_prior


def _inverse_of_lower(factor: FloatArray) -> FloatArray:
    n = len(factor)
    if n <= _BLOCK:
        return np.tril(np.linalg.inv(factor))
    half = n // 2
    inverse = np.zeros_like(factor)
    inverse[:half, :half] = _inverse_of_lower(factor[:half, :half])
    inverse[half:, half:] = _inverse_of_lower(factor[half:, half:])
    inverse[half:, :half] = -inverse[half:, half:] @ factor[half:, :half] @ inverse[:half, :half]
    return inverse


def _check_finite(points: FloatArray, targets: FloatArray) -> None:
    if not (np.isfinite(points).all() and np.isfinite(targets).all()):
        raise ValueError("a point or target is not finite: expected finite numbers")
