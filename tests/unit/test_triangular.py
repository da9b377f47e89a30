from __future__ import annotations

import numpy as np
import pytest

from aibench.search.triangular import FloatArray, inverse_of_lower, lower_times, times_lower


def lower(size: int) -> FloatArray:
    return np.tril(np.random.default_rng(1).normal(size=(size, size))) / size + np.eye(size)


@pytest.mark.parametrize("size", [1, 128, 129, 300])
@pytest.mark.parametrize("width", [1, 5])
def test_products_are_those_of_the_whole_matrix(size: int, width: int) -> None:
    other = np.random.default_rng(2).normal(size=(size, width))
    assert lower_times(lower(size), other) == pytest.approx(lower(size) @ other, abs=1e-12)
    assert times_lower(other.T, lower(size)) == pytest.approx(other.T @ lower(size), abs=1e-12)


@pytest.mark.parametrize("size", [1, 64, 65, 300])
def test_inverse_of_a_lower_matrix_is_lower(size: int) -> None:
    inverse = inverse_of_lower(lower(size))
    assert inverse @ lower(size) == pytest.approx(np.eye(size), abs=1e-12)
    assert (np.triu(inverse, 1) == 0.0).all()
