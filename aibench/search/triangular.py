"""Products and inverses of large lower triangular matrices, without the half that is zeros.

Panels of rows halve the memory that a product reads, which is what bounds products with few columns.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

_PANEL = 128
_MAX_DIRECT_INVERSE = 64


def lower_times(lower: FloatArray, right: FloatArray) -> FloatArray:
    """The product of a lower triangular matrix, shape (n, n), and one of shape (n, m)."""
    product = np.empty_like(right)
    for start, end in _panels(len(lower)):
        product[start:end] = lower[start:end, :end] @ right[:end]
    return product


def times_lower(left: FloatArray, lower: FloatArray) -> FloatArray:
    """The product of a matrix of shape (m, n) and a lower triangular one, shape (n, n)."""
    product = np.zeros_like(left)
    for start, end in _panels(len(lower)):
        product[:, :end] += left[:, start:end] @ lower[start:end, :end]
    return product


def inverse_of_lower(lower: FloatArray) -> FloatArray:
    """The inverse of a lower triangular matrix, by halves; lower triangular too."""
    n = len(lower)
    if n <= _MAX_DIRECT_INVERSE:
        return np.tril(np.linalg.inv(lower))
    half = n // 2
    inverse = np.zeros_like(lower)
    inverse[:half, :half] = inverse_of_lower(lower[:half, :half])
    inverse[half:, half:] = inverse_of_lower(lower[half:, half:])
    inverse[half:, :half] = -inverse[half:, half:] @ lower[half:, :half] @ inverse[:half, :half]
    return inverse


def _panels(num_rows: int) -> Iterator[tuple[int, int]]:
    for start in range(0, num_rows, _PANEL):
        yield start, min(start + _PANEL, num_rows)
