from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from aibench.search import gaussian_process
from aibench.search.gaussian_process import (
    GaussianProcess,
    Kernel,
    cholesky,
    correlations,
)
from aibench.search.triangular import FloatArray

ONE_FEATURE = Kernel(groups=np.array([0]), length_scales=(2.0,), noise=0.25)
THREE_FEATURES = Kernel(groups=np.array([0, 0, 1]), length_scales=(1.0, 3.0), noise=0.01)


def some_points(num_points: int, seed: int = 1) -> FloatArray:
    return np.random.default_rng(seed).normal(size=(num_points, 3))


def some_targets(points: FloatArray) -> FloatArray:
    return np.asarray(np.sin(points[:, 0]) + 0.1 * points[:, 2])


def append(process: GaussianProcess, point: list[float] | FloatArray, target: float) -> None:
    process.append(np.array([point]), np.array([target]))


def two_results() -> GaussianProcess:
    """Targets 1 and 3 one length scale apart: correlation (1 + √5 + 5/3) · exp(-√5) = 0.5239941088."""
    return GaussianProcess(np.array([[0.0], [2.0]]), np.array([1.0, 3.0]), ONE_FEATURE)


def test_correlation_falls_with_the_distance_in_length_scales() -> None:
    points = ONE_FEATURE.scaled(np.array([[0.0], [2.0], [4.0]]))
    expected = [1.0, 0.5239941088318203, 0.13866021913850426]
    assert correlations(points, points)[0] == pytest.approx(expected, abs=1e-15)


def test_each_group_has_its_own_length_scale() -> None:
    assert THREE_FEATURES.scaled(np.array([[2.0, 4.0, 6.0]])).tolist() == [[2.0, 4.0, 2.0]]


def test_two_results_as_computed_by_hand() -> None:
    # By symmetry the mean is 2. The covariance has the eigenvalue 1 + 1/4 - correlation = 0.7260058912 for
    # differences: the signal variance is 1 / 0.7260058912, and targets pull by 0.4760058912 / 0.7260058912.
    prediction = two_results().predict(np.array([[0.0], [1.0], [2.0], [1000.0]]))
    assert prediction.means == pytest.approx([1.3443498228337, 2.0, 2.6556501771663, 2.0], abs=1e-12)
    assert prediction.deviations[[0, 2, 3]] == pytest.approx(
        [0.533911437029507, 0.533911437029507, 1.6121874597897987], abs=1e-12
    )


def test_likelihood_of_two_results_as_computed_by_hand() -> None:
    assert two_results().log_likelihood == pytest.approx(-3.284592422747612, abs=1e-12)


def test_one_result_is_the_mean_everywhere() -> None:
    prediction = GaussianProcess(np.array([[1.0]]), np.array([0.5]), ONE_FEATURE).predict(
        np.array([[1.0], [99.0]])
    )
    assert prediction.means.tolist() == [0.5, 0.5]
    assert prediction.deviations[0] < prediction.deviations[1]


def test_without_noise_the_targets_are_interpolated() -> None:
    points = some_points(12)
    process = GaussianProcess(points, some_targets(points), replace(THREE_FEATURES, noise=0.0))
    prediction = process.predict(points)
    assert prediction.means == pytest.approx(some_targets(points), abs=1e-8)
    assert prediction.deviations.max() < 1e-4


@pytest.mark.parametrize(("size", "capacity"), [(1, 0), (1, 300), (7, 0), (64, 200), (298, 0)])
def test_appended_results_give_what_a_full_fit_gives(size: int, capacity: int) -> None:
    points = some_points(300)
    targets = some_targets(points)
    process = GaussianProcess(points[:2], targets[:2], THREE_FEATURES, capacity=capacity)
    for start in range(2, 300, size):
        process.append(points[start : start + size], targets[start : start + size])
    assert process.num_results == 300
    full = GaussianProcess(points, targets, THREE_FEATURES)
    places = some_points(20, seed=2)
    for found, expected in zip(process.predict(places), full.predict(places), strict=True):
        assert found == pytest.approx(expected, abs=1e-10)
    assert process.log_likelihood == pytest.approx(full.log_likelihood, abs=1e-7)


def test_predictions_learn() -> None:
    points = some_points(150)
    process = GaussianProcess(points, some_targets(points), THREE_FEATURES)
    places = some_points(50, seed=2)
    assert np.abs(process.predict(places).means - some_targets(places)).mean() < 0.05


@pytest.mark.parametrize("noise", [0.0, 0.25])
def test_equal_points_are_harmless(noise: float) -> None:
    kernel = replace(ONE_FEATURE, noise=noise)
    process = GaussianProcess(np.array([[0.0], [0.0], [2.0]]), np.array([1.0, 3.0, 2.0]), kernel)
    for target in (1.0, 3.0) * 20:
        append(process, [0.0], target)
    before = process.predict(np.array([[0.0]]))
    assert before.means == pytest.approx([2.0], abs=1e-3)
    assert np.isfinite(before.deviations).all()
    append(process, [0.0], 6.5)
    assert process.predict(np.array([[0.0]])).means[0] > before.means[0] + 0.05


@pytest.mark.parametrize("noise", [0.0, 0.25])
def test_equal_points_in_one_block_are_harmless(noise: float) -> None:
    process = GaussianProcess(
        np.array([[0.0], [2.0]]), np.array([2.0, 3.0]), replace(ONE_FEATURE, noise=noise)
    )
    process.append(np.array([[0.0], [4.0], [4.0]]), np.array([2.0, 1.0, 1.0]))
    process.append(np.array([[4.0], [2.0]]), np.array([1.0, 3.0]))
    prediction = process.predict(np.array([[0.0], [2.0], [4.0]]))
    assert np.isfinite(prediction.deviations).all()
    assert prediction.means[2] < prediction.means[0] < prediction.means[1]
    if not noise:
        assert prediction.means == pytest.approx([2.0, 3.0, 1.0], abs=1e-3)


def test_a_block_that_no_jitter_makes_a_covariance_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    process = two_results()
    monkeypatch.setattr(gaussian_process, "correlations", lambda a, b: np.full((len(a), len(b)), -2.0))
    with pytest.raises(np.linalg.LinAlgError, match="covariance of 4 results: not positive definite"):
        process.append(np.array([[1.0], [3.0]]), np.array([1.0, 1.0]))


def test_equal_targets_are_harmless_and_later_ones_teach() -> None:
    process = GaussianProcess(some_points(30), np.full(30, 0.5), THREE_FEATURES)
    places = some_points(5, seed=2)
    flat = process.predict(places)
    assert flat.means == pytest.approx([0.5] * 5, abs=1e-12)
    assert (flat.deviations > 0).all()
    append(process, places[0], 0.9)
    assert process.predict(places).means[0] > 0.6


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_not_finite_is_refused(bad: float) -> None:
    process = two_results()
    before = process.predict(np.array([[1.0]]))
    with pytest.raises(ValueError, match="not finite"):
        append(process, [1.0], bad)
    with pytest.raises(ValueError, match="not finite"):
        append(process, [bad], 1.0)
    with pytest.raises(ValueError, match="not finite"):
        GaussianProcess(np.array([[bad]]), np.array([1.0]), ONE_FEATURE)
    assert process.predict(np.array([[1.0]])).means == before.means


def test_jitter_grows_until_the_factor_exists() -> None:
    assert cholesky(np.array([[1.0, 0.6], [0.6, 1.0]]))[1] == 0.0
    factor, jitter = cholesky(np.ones((3, 3)))
    assert jitter == 1e-9
    assert factor @ factor.T == pytest.approx(np.ones((3, 3)) + 1e-9 * np.eye(3), abs=1e-15)
    assert cholesky(np.array([[1.0, 1.00005], [1.00005, 1.0]]))[1] == pytest.approx(1e-4)


@pytest.mark.parametrize("matrix", [[[1.0, 2.0], [2.0, 1.0]], [[1.0, float("nan")], [float("nan"), 1.0]]])
def test_what_is_no_covariance_is_an_error(matrix: list[list[float]]) -> None:
    with pytest.raises(np.linalg.LinAlgError, match="covariance of 2 results: not positive definite"):
        cholesky(np.array(matrix))
