from __future__ import annotations

import math

import numpy as np
import pytest

from aibench.search import kernel_fit
from aibench.search.gaussian_process import GaussianProcess, Kernel
from aibench.search.kernel_fit import KernelFit, log_posterior
from aibench.search.triangular import FloatArray

ONE_FEATURE = Kernel(groups=np.array([0]), length_scales=(2.0,), noise=0.1)


def some_points(num_points: int) -> FloatArray:
    return np.random.default_rng(1).normal(size=(num_points, 3))


def fitted(points: FloatArray, targets: FloatArray, kernel: Kernel, *, sweeps: int) -> Kernel:
    for _ in range(sweeps):
        fit = KernelFit(points, targets, kernel)
        while not fit.is_done:
            fit.step()
        kernel = fit.best
    return kernel


def test_likelihood_tells_features_that_matter_from_those_that_do_not() -> None:
    points = some_points(150)
    start = Kernel(groups=np.array([0, 1, 1]), length_scales=(2.0, 2.0), noise=0.1)
    kernel = fitted(points, np.sin(2.0 * points[:, 0]), start, sweeps=4)
    assert kernel.length_scales[0] < kernel.length_scales[1]
    assert kernel.noise < start.noise
    assert start.length_scales == (2.0, 2.0)


def test_likelihood_finds_noise() -> None:
    noise = np.random.default_rng(4).normal(size=150)
    assert fitted(some_points(150), noise, Kernel.default(np.array([0, 0, 0])), sweeps=4).noise >= 0.4


def test_noise_never_falls_to_where_results_cannot_be_appended() -> None:
    points = some_points(60)
    kernel = fitted(points, points[:, 0], Kernel.default(np.array([0, 0, 0])), sweeps=20)
    assert 1e-4 <= kernel.noise < 2e-4


def test_the_prior_of_a_kernel_falls_by_octaves() -> None:
    """Two octaves are one deviation, so the density of four falls by a factor of exp(4² / 2² / 2)."""
    points, targets = np.array([[0.0], [1.0]]), np.array([1.0, 2.0])
    far = ONE_FEATURE.changed(0, 16.0)
    likelihood = GaussianProcess(points, targets, far).log_likelihood
    assert log_posterior(points, targets, far) == pytest.approx(likelihood - 2.0)


@pytest.mark.parametrize(
    ("best", "looked_at"),
    [
        ((2.0, 0.1), [(2.0, 0.1), (4.0, 0.1), (1.0, 0.1), (2.0, 0.2), (2.0, 0.05)]),
        ((4.0, 0.1), [(2.0, 0.1), (4.0, 0.1), (4.0, 0.2), (4.0, 0.05)]),
        ((1.0, 0.2), [(2.0, 0.1), (4.0, 0.1), (1.0, 0.1), (1.0, 0.2)]),
    ],
)
def test_every_step_looks_at_one_kernel(
    monkeypatch: pytest.MonkeyPatch, best: tuple[float, float], looked_at: list[tuple[float, float]]
) -> None:
    seen = []

    def density(_: FloatArray, __: FloatArray, kernel: Kernel) -> float:
        seen.append((kernel.length_scales[0], kernel.noise))
        return -abs(math.log(kernel.length_scales[0] / best[0])) - abs(math.log(kernel.noise / best[1]))

    monkeypatch.setattr(kernel_fit, "log_posterior", density)
    fit = KernelFit(np.zeros((5, 1)), np.zeros(5), ONE_FEATURE)
    for num_seen in range(1, len(looked_at) + 1):
        assert not fit.is_done
        fit.step()
        assert len(seen) == num_seen
    assert fit.is_done
    assert seen == looked_at
    assert (fit.best.length_scales[0], fit.best.noise) == best
