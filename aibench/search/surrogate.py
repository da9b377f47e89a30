"""What is known about the errors of networks that no trial has had."""

from __future__ import annotations

import math

import numpy as np

from aibench.search.embedding import GROUPS
from aibench.search.gaussian_process import GaussianProcess, Kernel, Prediction
from aibench.search.kernel_fit import KernelFit
from aibench.search.triangular import FloatArray

# Logarithms, because the normalized score rewards -ln(error); the offset bounds them where an error is 0.
ERROR_OFFSET = 0.01

MAX_RESULTS = 1500
NUM_KEPT_RESULTS = 1000
NUM_FIT_RESULTS = 200
FIT_INTERVAL_RATIO = 1.3

# What is done with each result beside adding it, so that none pays for a whole fit or a whole factorisation:
# steps of a fit times the results that it looks at, or results with which a new process starts, or a block of
# results that it appends times the square of those it has. Two results a block are the fewest that catch up.
FIT_WORK = 200
FIRST_BLOCK = 100
BLOCK_WORK = 8_000_000
MIN_BLOCK = 2
MAX_BLOCK = 64

# The process that predicts still grows while its smaller successor is built.
CAPACITY = MAX_RESULTS + 250


def error_of(log_error: float) -> float:
    """The error, in 0..1, that the surrogate stands ``log_error`` for."""
    return min(max(math.exp(log_error) - ERROR_OFFSET, 0.0), 1.0)


class Surrogate:
    """A Gaussian process over embedded networks that predicts ln(error + ``ERROR_OFFSET``).

    It depends on the results and their order alone. When it knows ``MAX_RESULTS`` of them, it keeps
    ``NUM_KEPT_RESULTS``, half of them the best and half an even sample of the others.

    A result is part of the next prediction, but a new kernel or a smaller set of results is not: the process
    that has it, the successor, is built over many results and takes over when it knows all that are kept.
    """

    def __init__(self) -> None:
        self._kernel = Kernel.default(GROUPS)
        self._points: list[FloatArray] = []
        self._targets: list[float] = []
        self._num_told = 0
        self._next_fit = 2
        self._process: GaussianProcess | None = None
        self._successor: GaussianProcess | None = None
        self._fit: KernelFit | None = None

    def tell(self, point: FloatArray, error: float) -> None:
        """Add the result of a network embedded at ``point``, of shape (d,)."""
        self._points.append(point)
        self._targets.append(math.log(error + ERROR_OFFSET))
        self._num_told += 1
        if self._process is None:
            self._process = self._new_process()
        else:
            self._process.append(*self._results(slice(-1, None)))
        self._improve()

    def predict(self, points: FloatArray) -> Prediction:
        """Predictions at points of shape (m, d); zeros before the first result."""
        if self._process is None:
            return Prediction(np.zeros(len(points)), np.zeros(len(points)))
        return self._process.predict(points)

    def _improve(self) -> None:
        """Do one result's share of the work on a better process."""
        if len(self._points) >= MAX_RESULTS:
            self._thin()
            self._successor = self._new_process()
        elif self._successor is not None:
            self._catch_up(self._successor)
        elif self._fit is not None or self._num_told >= self._next_fit:
            self._fit = self._fit or self._new_fit()
            self._go_on_fitting(self._fit)

    def _new_process(self) -> GaussianProcess:
        return GaussianProcess(*self._results(slice(FIRST_BLOCK)), self._kernel, capacity=CAPACITY)

    def _new_fit(self) -> KernelFit:
        self._next_fit = math.ceil(self._num_told * FIT_INTERVAL_RATIO)
        sample = np.unique(np.linspace(0, len(self._points) - 1, NUM_FIT_RESULTS).round().astype(int))
        points = np.array([self._points[index] for index in sample])
        return KernelFit(points, np.array([self._targets[index] for index in sample]), self._kernel)

    def _go_on_fitting(self, fit: KernelFit) -> None:
        for _ in range(max(1, FIT_WORK // fit.num_results)):
            if not fit.is_done:
                fit.step()
        if fit.is_done:
            self._fit = None
            if fit.best != self._kernel:
                self._kernel = fit.best
                self._successor = self._new_process()
                self._take_over_if_complete(self._successor)

    def _catch_up(self, successor: GaussianProcess) -> None:
        n = successor.num_results
        num_results = min(max(BLOCK_WORK // n**2, MIN_BLOCK), MAX_BLOCK)
        successor.append(*self._results(slice(n, n + num_results)))
        self._take_over_if_complete(successor)

    def _take_over_if_complete(self, successor: GaussianProcess) -> None:
        if successor.num_results == len(self._points):
            self._process, self._successor = successor, None

    def _results(self, part: slice) -> tuple[FloatArray, FloatArray]:
        return np.array(self._points[part]), np.array(self._targets[part])

    def _thin(self) -> None:
        by_error = sorted(range(len(self._targets)), key=self._targets.__getitem__)
        num_best = NUM_KEPT_RESULTS // 2
        others = np.linspace(num_best, len(by_error) - 1, NUM_KEPT_RESULTS - num_best).round().astype(int)
        kept = sorted(by_error[:num_best] + [by_error[rank] for rank in others])
        self._points = [self._points[index] for index in kept]
        self._targets = [self._targets[index] for index in kept]
