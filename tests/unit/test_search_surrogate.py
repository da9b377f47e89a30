from __future__ import annotations

import math

import numpy as np
import pytest

from aibench.search import gaussian_process, surrogate
from aibench.search.embedding import NUM_FEATURES
from aibench.search.gaussian_process import GaussianProcess, Kernel
from aibench.search.surrogate import Surrogate, error_of
from aibench.search.triangular import FloatArray


def points(num_points: int, seed: int = 1) -> FloatArray:
    return np.random.default_rng(seed).normal(size=(num_points, NUM_FEATURES))


def errors(places: FloatArray) -> list[float]:
    """Errors in 0.1..0.5 that depend on the first feature alone."""
    values: list[float] = (0.3 + 0.2 * np.tanh(places[:, 0])).tolist()
    return values


class RecordedProcess(GaussianProcess):
    """Remembers every process of a surrogate."""

    made: list[GaussianProcess]

    def __init__(self, points: FloatArray, targets: FloatArray, kernel: Kernel, *, capacity: int = 0) -> None:
        super().__init__(points, targets, kernel, capacity=capacity)
        self.made.append(self)


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> list[GaussianProcess]:
    """All processes that surrogates make in the test, in order."""
    made: list[GaussianProcess] = []
    monkeypatch.setattr(RecordedProcess, "made", made, raising=False)
    monkeypatch.setattr(surrogate, "GaussianProcess", RecordedProcess)
    return made


def test_before_the_first_result_predictions_are_flat() -> None:
    assert Surrogate().predict(points(3)).means.tolist() == [0.0, 0.0, 0.0]


def test_predictions_are_logarithms_of_the_error_bounded_at_zero() -> None:
    for error, target in ((0.0, -4.605170), (0.09, -2.302585), (1.0, 0.009950)):
        model = Surrogate()
        model.tell(points(1)[0], error)
        assert model.predict(points(1)).means == pytest.approx([target], abs=1e-6)


def test_predictions_learn_where_errors_are_small() -> None:
    model = Surrogate()
    for point in points(120):
        model.tell(point, 0.5 if point[0] > 0 else 0.1)
    places = np.zeros((2, NUM_FEATURES))
    places[:, 0] = (-1.0, 1.0)
    low, high = model.predict(places).means
    assert low < high - 0.5


@pytest.mark.parametrize("error", [0.0, 0.5, 1.0])
def test_many_identical_results_do_not_stop_the_learning(error: float) -> None:
    model = Surrogate()
    same, other = points(2)
    for _ in range(40):
        model.tell(same, error)
    flat = model.predict(np.array([same, other]))
    assert np.isfinite(flat.means).all()
    assert np.isfinite(flat.deviations).all()
    model.tell(other, 0.25)
    assert abs(model.predict(np.array([other])).means[0] - flat.means[1]) > 0.01


def test_errors_of_zero_and_one_side_by_side_are_harmless() -> None:
    model = Surrogate()
    for number, point in enumerate(points(40)):
        model.tell(point, float(number % 2))
    prediction = model.predict(points(40))
    assert (np.abs(prediction.means) < 5.0).all()
    assert np.isfinite(prediction.deviations).all()


def test_a_full_surrogate_keeps_its_best_results_and_goes_on_learning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(surrogate, "MAX_RESULTS", 30)
    monkeypatch.setattr(surrogate, "NUM_KEPT_RESULTS", 10)
    model = Surrogate()
    best, late = 20.0 * np.eye(NUM_FEATURES)[:2]
    model.tell(best, 0.01)
    for point in points(100):
        model.tell(point, 0.5)
    assert model.predict(best[None]).means[0] < model.predict(points(1)).means[0] - 0.5
    before = model.predict(late[None]).means[0]
    model.tell(late, 0.9)
    assert model.predict(late[None]).means[0] > before + 0.1


def test_predictions_know_every_result_while_a_successor_is_built(
    monkeypatch: pytest.MonkeyPatch, processes: list[GaussianProcess]
) -> None:
    monkeypatch.setattr(surrogate, "BLOCK_WORK", 1)
    model = Surrogate()
    told = points(300)
    places = points(3, seed=2)
    num_behind = 0
    for number, (point, error) in enumerate(zip(told, errors(told), strict=True), start=1):
        model.tell(point, error)
        if number % 5:
            continue
        num_behind += processes[-1].num_results < number
        predicting = next(process for process in reversed(processes) if process.num_results == number)
        targets = np.log(np.array(errors(told[:number])) + 0.01)
        fresh = GaussianProcess(told[:number], targets, predicting.kernel)
        assert model.predict(places).means == pytest.approx(fresh.predict(places).means, abs=1e-9)
    assert num_behind >= 3
    assert processes[-1].num_results == 300


def test_no_result_pays_for_a_whole_fit_or_a_whole_factorisation(monkeypatch: pytest.MonkeyPatch) -> None:
    factorised: list[int] = []

    def recorded(matrix: FloatArray) -> tuple[FloatArray, float]:
        factorised.append(len(matrix))
        return cholesky(matrix)

    cholesky = gaussian_process.cholesky
    monkeypatch.setattr(gaussian_process, "cholesky", recorded)
    monkeypatch.setattr(surrogate, "MAX_RESULTS", 450)
    monkeypatch.setattr(surrogate, "NUM_KEPT_RESULTS", 300)
    model = Surrogate()
    told = points(700)
    for number, (point, error) in enumerate(zip(told, errors(told), strict=True), start=1):
        factorised.clear()
        model.tell(point, error)
        if number >= 200:
            assert factorised in ([], [200], [200, 100], [100])


def test_the_same_results_lead_to_the_same_surrogate() -> None:
    told, places = points(500), points(3, seed=2)
    found = []
    for _ in range(2):
        model = Surrogate()
        for point, error in zip(told, errors(told), strict=True):
            model.tell(point, error)
        found.append(model.predict(places).means.tolist())
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("log_error", "error"),
    [(math.log(0.26), 0.25), (math.log(0.01), 0.0), (-100.0, 0.0), (0.5, 1.0), (math.log(1.01), 1.0)],
)
def test_predictions_stand_for_errors(log_error: float, error: float) -> None:
    assert error_of(log_error) == pytest.approx(error, abs=1e-15)
