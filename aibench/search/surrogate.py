"""What is known about the errors of networks that no trial has had."""

from __future__ import annotations

import math

import numpy as np

from aibench.search.embedding import GROUPS
from aibench.search.gaussian_process import FloatArray, GaussianProcess, Kernel, Prediction, fit_kernel

# Logarithms, because the normalized score rewards -ln(error); the offset bounds them where an error is 0.
ERROR_OFFSET = 0.01

MAX_RESULTS = 1500
NUM_KEPT_RESULTS = 1000
NUM_FIT_RESULTS = 200
FIT_INTERVAL_RATIO = 1.3


class Surrogate:
    """A Gaussian process over embedded networks that predicts ln(error + ``ERROR_OFFSET``).

    It depends on the results and their order alone, and holds fewer than ``MAX_RESULTS`` of them: when they
    are as many, it keeps ``NUM_KEPT_RESULTS``, half of them the best and half an even sample of the others.
    """

    def __init__(self) -> None:
        self._kernel = Kernel.default(GROUPS)
        self._points: list[FloatArray] = []
        self._targets: list[float] = []
        self._num_told = 0
        self._next_fit = 2
        self._process: GaussianProcess | None = None

    def tell(self, point: FloatArray, error: float) -> None:
        """Add the result of a network embedded at ``point``, of shape (d,)."""
        self._points.append(point)
        self._targets.append(math.log(error + ERROR_OFFSET))
        self._num_told += 1
        if len(self._points) == MAX_RESULTS:
            self._thin()
        if self._num_told >= self._next_fit:
            self._next_fit = math.ceil(self._num_told * FIT_INTERVAL_RATIO)
            self._fit()
        elif self._process is None:
            self._process = GaussianProcess(np.array(self._points), np.array(self._targets), self._kernel)
        else:
            self._process.append(point, self._targets[-1])

    def predict(self, points: FloatArray) -> Prediction:
        """Predictions at points of shape (m, d); zeros before the first result."""
        if self._process is None:
            return Prediction(np.zeros(len(points)), np.zeros(len(points)))
        return self._process.predict(points)

    def _fit(self) -> None:
        points, targets = np.array(self._points), np.array(self._targets)
        sample = np.unique(np.linspace(0, len(targets) - 1, NUM_FIT_RESULTS).round().astype(int))
        self._kernel = fit_kernel(points[sample], targets[sample], self._kernel)
        self._process = GaussianProcess(points, targets, self._kernel)

    def _thin(self) -> None:
        by_error = sorted(range(len(self._targets)), key=self._targets.__getitem__)
        num_best = NUM_KEPT_RESULTS // 2
        others = np.linspace(num_best, len(by_error) - 1, NUM_KEPT_RESULTS - num_best).round().astype(int)
        kept = sorted(by_error[:num_best] + [by_error[rank] for rank in others])
        self._points = [self._points[index] for index in kept]
        self._targets = [self._targets[index] for index in kept]
        self._process = None
