"""What the codes of a row tell of its next code: linear regression on the rows before, in columns that hang together.

Formula: the code of column c is expected at offset_c + Σ_{k<c} w_ck · code_k, the weights from the Cholesky factor L of
the covariance of all rows so far, its off-diagonal part shrunk: w_ck = -(L^-1)_ck / (L^-1)_cc. Refitted as rows come.
Measured: 1.2 % of the bytes of an embedding's codes; nothing on matrices that Muon trained, whose columns are unrelated
(docs/artifact.md).
The sums are exact and the rest are additions, multiplications, divisions and square roots of fp64 in a fixed order,
which IEEE 754 rounds alike everywhere and numba does not contract; weights are then rounded to 1/4096.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from paramgolf.artifact.bits import Integers

FORECAST_PARTS = 4096
"""Of a code, in which forecasts are made."""
FORECAST_SHRINK = 0.4
"""Of covariances between columns."""
FORECAST_FLOOR = 0.01
"""Added to variances, of squared codes."""
FIRST_FIT = 128
"""Rows before the first fit, and at the least between two."""
FIT_SHARE = 8
"""A fit is as good as new until a further 1/8 of its rows has come."""


class Forecast(NamedTuple):
    """A regression of every column on those before it."""

    weights: Integers
    """(columns, columns) in FORECAST_PARTS, below the diagonal."""
    offsets: Integers
    """(columns,) in FORECAST_PARTS."""
    sums: Integers
    """(columns,) of codes so far."""
    products: Integers
    """(columns, columns) sums of products of codes so far, up to the diagonal."""
    fitted: Integers
    """(1,) how many rows it was fitted to."""


@njit(nogil=True, error_model="numpy")
def add_rows(forecast, codes):  # type: ignore[no-untyped-def]
    """Take (rows, columns) further codes into the sums."""
    for row in range(codes.shape[0]):
        for column in range(codes.shape[1]):
            code = codes[row, column]
            forecast.sums[column] += code
            for other in range(column + 1):
                forecast.products[column, other] += code * codes[row, other]


@njit(nogil=True, error_model="numpy")
def refit(forecast, rows):  # type: ignore[no-untyped-def]
    """New weights and offsets from the sums over `rows` rows."""
    columns = len(forecast.sums)
    means = forecast.sums / rows
    inverse = inverted_factor(shrunk_covariance(forecast, means, rows))
    for column in range(columns):
        offset = means[column]
        for other in range(column):
            weight = -inverse[column, other] / inverse[column, column]
            forecast.weights[column, other] = int(np.floor(weight * FORECAST_PARTS + 0.5))
            offset -= weight * means[other]
        forecast.offsets[column] = int(np.floor(offset * FORECAST_PARTS + 0.5))


@njit(nogil=True, error_model="numpy")
def shrunk_covariance(forecast, means, rows):  # type: ignore[no-untyped-def]
    """(columns, columns) covariances up to the diagonal."""
    columns = len(means)
    covariance = np.zeros((columns, columns))
    for column in range(columns):
        for other in range(column):
            product = forecast.products[column, other] / rows - means[column] * means[other]
            covariance[column, other] = product * (1 - FORECAST_SHRINK)
        square = forecast.products[column, column] / rows - means[column] * means[column]
        covariance[column, column] = square + FORECAST_FLOOR
    return covariance


@njit(nogil=True, error_model="numpy")
def inverted_factor(matrix):  # type: ignore[no-untyped-def]
    """The inverse of the lower Cholesky factor of a matrix, which is overwritten by the factor."""
    columns = len(matrix)
    inverse = np.zeros((columns, columns))
    for row in range(columns):
        for column in range(row + 1):
            total = matrix[row, column]
            for place in range(column):
                total -= matrix[row, place] * matrix[column, place]
            if row == column:
                matrix[row, row] = np.sqrt(max(total, FORECAST_FLOOR * 0.1))
            else:
                matrix[row, column] = total / matrix[column, column]
        inverse[row, row] = 1.0
        for place in range(row):
            for column in range(place + 1):
                inverse[row, column] -= matrix[row, place] * inverse[place, column]
        for column in range(row + 1):
            inverse[row, column] /= matrix[row, row]
    return inverse


@njit(nogil=True, error_model="numpy")
def expected_code(forecast, codes, column):  # type: ignore[no-untyped-def]
    """The forecast for `column` of a row of codes whose columns before it are known, in FORECAST_PARTS."""
    total = forecast.offsets[column]
    for other in range(column):
        total += forecast.weights[column, other] * codes[other]
    return total


@njit(nogil=True, error_model="numpy")
def keep_fitted(forecast, codes, row):  # type: ignore[no-untyped-def]
    """Refit to all codes before `row` when that is due; `codes` are of all rows so far and more."""
    fitted = forecast.fitted[0]
    if row < fitted + max(FIRST_FIT, fitted // FIT_SHARE):
        return
    add_rows(forecast, codes[fitted:row])
    refit(forecast, row)
    forecast.fitted[0] = row


def forecast_for(rows: int, columns: int) -> Forecast:
    """A regression that has seen nothing; of no columns where one would not be worth its time."""
    worth = rows >= LEAST_ROWS and 1 < columns <= MOST_COLUMNS
    size = columns if worth else 0
    sums, products = np.zeros(size, np.int64), np.zeros((size, size), np.int64)
    return Forecast(products.copy(), sums.copy(), sums, products, np.zeros(1, np.int64))


def hangs_together(codes: npt.NDArray[np.int64]) -> bool:
    """Whether the columns of a matrix have means that are no accident: then they tell of each other."""
    values = codes.astype(np.float64)
    return bool((values.mean(0) ** 2).mean() * len(values) > CLEAR_MEANS * (values**2).mean())


LEAST_ROWS, MOST_COLUMNS = 1000, 1024
"""What a matrix must have for a regression."""
CLEAR_MEANS = 4
"""Squared means of columns in units of what chance would give."""
