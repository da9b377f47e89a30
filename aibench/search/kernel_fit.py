"""The kernel that makes the targets likeliest, looked for in steps of bounded cost.

Source of the marginal likelihood: Rasmussen and Williams, "Gaussian Processes for Machine Learning", 2006,
section 5.4.
"""

from __future__ import annotations

import math

from aibench.search.gaussian_process import (
    DEFAULT_LENGTH_SCALE,
    DEFAULT_NOISE,
    GaussianProcess,
    Kernel,
)
from aibench.search.triangular import FloatArray

PRIOR_OCTAVES = 2.0

# Far above the pivot at which results stop being appended, so that what a fitted kernel costs is known.
MIN_NOISE = 1e-4

_FACTORS = (2.0, 0.5)


class KernelFit:
    """One sweep over the length scales and the noise, each doubled or halved if that is more likely.

    Wide log-normal priors around the defaults keep few results from leading to extremes.

    Args:
        points: Shape (n, d).
        targets: Shape (n,).
        start: Where the sweep begins.
    """

    def __init__(self, points: FloatArray, targets: FloatArray, start: Kernel) -> None:
        self._points = points
        self._targets = targets
        self._best = start
        self._best_density: float | None = None
        positions = range(len(start.length_scales) + 1)
        self._moves = [(position, factor) for position in positions for factor in _FACTORS]

    @property
    def num_results(self) -> int:
        """Results that every step looks at."""
        return len(self._targets)

    @property
    def best(self) -> Kernel:
        """The likeliest kernel so far."""
        return self._best

    @property
    def is_done(self) -> bool:
        """Whether the sweep is over."""
        return not self._moves

    def step(self) -> None:
        """Look at one more kernel, in O(n³)."""
        if self._best_density is None:
            self._best_density = log_posterior(self._points, self._targets, self._best)
            return
        position, factor = self._moves.pop(0)
        kernel = self._best.changed(position, factor)
        density = log_posterior(self._points, self._targets, kernel)
        if density > self._best_density:
            self._best, self._best_density = kernel, density
            self._moves = [move for move in self._moves if move[0] != position]


def log_posterior(points: FloatArray, targets: FloatArray, kernel: Kernel) -> float:
    """Logarithm of the targets' density under the kernel times the kernel's own prior density.

    Minus infinity for less noise than ``MIN_NOISE``.
    """
    if kernel.noise < MIN_NOISE:
        return -math.inf
    octaves = [math.log2(scale / DEFAULT_LENGTH_SCALE) for scale in kernel.length_scales]
    octaves.append(math.log2(kernel.noise / DEFAULT_NOISE))
    log_prior = -0.5 * sum((distance / PRIOR_OCTAVES) ** 2 for distance in octaves)
    return GaussianProcess(points, targets, kernel).log_likelihood + log_prior
