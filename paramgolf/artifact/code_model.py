"""What the coder of weights expects of an integer code, and how it says a code in bits.

A code is said as: zero? negative? at least 2, 4, 8, …? then the bits below its highest, the first three of which have
chances of their own. What predicts them is the magnitude that the row and the column of a code lead to expect,

    expected = level · row average / level · column average / level

where each average is of the magnitudes so far, every one divided by what the other direction expects, and starts from
the level as if some codes had been seen; how many, the writer says, who knows how much rows and columns differ. Beside
it: both averages apart, a column average that forgets, the codes above, signs nearby, the averages of signs, what the
codes before it in the row forecast (`forecast.py`), and of trellis codes the grid that the next code is of (catalogue
C10, H22, H23). Once a code is known to be negative, what leans to one side is looked at from the other.
"""

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from paramgolf.artifact.bits import Integers, ModelSize, code_node, code_plainly
from paramgolf.artifact.forecast import FIRST_FIT, Forecast, expected_code, hangs_together, keep_fitted

CODE_NODES = 96
"""Decisions about one code."""
OTHER_GRID = CODE_NODES
"""Added for a code of the odd grid of a trellis."""
FIRST_MANTISSA = 24
LOG_PARTS = 16
"""Of an octave, in which expected magnitudes are told apart."""
LEAST_LOG = 188
"""Logarithm of the least magnitude that is told from smaller ones, of 1/65536."""
EXPECTATIONS = 160
SIGN_PARTS = 17
FORGETTING = 24
"""Rows over which the column average that forgets reaches back."""
SIGN_PRIOR = 8
"""Codes that an average of signs starts with."""
CODE_MODEL = ModelSize(
    nodes=2 * CODE_NODES,
    contexts=(EXPECTATIONS, 32 * 32, EXPECTATIONS, 16 * 16, SIGN_PARTS * SIGN_PARTS, 27, EXPECTATIONS * SIGN_PARTS),
    patience=(4000, 4000, 4000, 2000, 1000, 1000, 1000),
    eagerness=16,
)
"""The inputs of `code_plane`."""
PRIOR_LIMIT = 30
"""Twice the binary logarithm of how many codes an average may start with."""
LEVEL, ROW_PRIOR, COLUMN_PRIOR, ROW_SLOPE, COLUMN_SLOPE, FORECAST = range(6)
"""Places in what a writer says of a plane before its codes, a byte each."""
SLOPE_PARTS = 8
"""Of a slope of 1: by how much expected magnitudes follow the steps of the codes."""
SLOPE_OFFSET = 16
"""Added to a slope, so that it is a byte."""


class PlaneTables(NamedTuple):
    """Constants of `code_plane`."""

    logarithms: Integers
    """(32768,) LOG_PARTS · log2; of 0 as of 1."""
    powers: Integers
    """(513,) 65536 · 2^(n / LOG_PARTS) for n from -256 to 256."""


class Plane(NamedTuple):
    """A block of rows of a matrix of codes, and what is known of it beforehand."""

    codes: Integers
    """(rows, columns): read by a writer, filled by a reader."""
    row_logs: Integers
    """(rows,) LOG_PARTS · log2 of the steps of the rows, up to a constant; zeros where there are none."""
    column_logs: Integers
    """(columns,) likewise."""
    after: Integers
    """(states, 2) of a trellis, see `next_states`; of no states where there is none."""
    forecast: Forecast
    """Of no columns where none is made."""
    states: Integers
    """(columns,) the state of every column before the first row: read by a writer, filled by a reader."""


def plane_tables() -> PlaneTables:
    """The tables; their entries are not near to where two libraries could round differently."""
    logs = np.rint(LOG_PARTS * np.log2(np.arange(1, 1 << 15))).astype(np.int64)
    return PlaneTables(np.concatenate((logs[:1], logs)), (65536 * 2 ** (np.arange(-256, 257) / LOG_PARTS)).astype(int))


def said_of(plane: Plane) -> Integers:
    """(6,) what a writer says of a plane before its codes: level, priors, slopes, whether a forecast is worth it."""
    magnitudes = np.abs(plane.codes).astype(np.float64)
    said = np.array([0, PRIOR_LIMIT, PRIOR_LIMIT, SLOPE_OFFSET, SLOPE_OFFSET, 0])
    if not magnitudes.any():
        return said
    said[LEVEL] = min(max(round(LOG_PARTS * math.log2(magnitudes.mean() * 65536)) - LEAST_LOG, 0), 255)
    for axis, steps in ((0, plane.row_logs), (1, plane.column_logs)):
        logs = np.log(magnitudes.mean(1 - axis) + 0.01)
        centred = (steps - steps.mean()) * math.log(2) / LOG_PARTS
        slope = round(float(centred @ logs / max(centred @ centred, 1e-9)) * SLOPE_PARTS)
        slope = min(max(slope, -SLOPE_OFFSET), SLOPE_OFFSET - 1)
        # Magnitudes vary by 0.76 of their mean, so that much of the variance is of having seen few.
        seen = magnitudes.shape[1 - axis]
        variance = max(float((logs - centred * slope / SLOPE_PARTS).var()) - 0.57 / seen, 1e-9)
        said[ROW_PRIOR + axis] = min(max(round(2 * math.log2(0.57 / variance)), 0), PRIOR_LIMIT)
        said[ROW_SLOPE + axis] = slope + SLOPE_OFFSET
    said[FORECAST] = int(len(plane.forecast.sums) > 0 and hangs_together(plane.codes))
    return said


@njit(nogil=True, error_model="numpy")
def logarithm(table, number):  # type: ignore[no-untyped-def]
    """LOG_PARTS · log2 of a positive number below 2^31."""
    if number < 32768:
        return table[max(number, 0)]
    if number < 1 << 23:
        return table[number >> 8] + 8 * LOG_PARTS
    return table[min(number >> 16, 32767)] + 16 * LOG_PARTS


@njit(nogil=True, error_model="numpy")
def scaled(tables, number, log):  # type: ignore[no-untyped-def]
    """`number` · 2^(log / LOG_PARTS)."""
    return (number >> 4) * tables.powers[min(max(log, -256), 256) + 256] >> 12


@njit(nogil=True, error_model="numpy")
def clipped(number, most):  # type: ignore[no-untyped-def]
    """`number`, within 0 and `most`."""
    return min(max(number, 0), most)


@njit(nogil=True, error_model="numpy")
def side_of(mean, magnitude):  # type: ignore[no-untyped-def]
    """One of SIGN_PARTS: how far a mean lies to one side, for the magnitude expected."""
    return clipped((8 * mean + magnitude // 2) // (magnitude + 1) + SIGN_PARTS // 2, SIGN_PARTS - 1)


@njit(nogil=True, error_model="numpy")
def signs_of(left, above, corner):  # type: ignore[no-untyped-def]
    """One of 27: the signs of three codes."""
    return (np.sign(left) * 3 + np.sign(above)) * 3 + np.sign(corner) + 13


@njit(nogil=True, error_model="numpy")
def code_code(model, code, grid):  # type: ignore[no-untyped-def]
    """One code in the model's present contexts; `grid` is 0 or `OTHER_GRID`."""
    size = abs(code)
    if not code_node(model, int(size > 0), grid):
        return 0
    negative = code_node(model, int(code < 0), grid + 1)
    if negative:
        model.contexts[:] = model.mirrored
    bits = 1
    while bits < 16 and code_node(model, int(size >> bits > 0), grid + 1 + bits):
        bits += 1
    result = 1
    for place in range(bits - 1):
        bit = (size >> (bits - 2 - place)) & 1
        if place < 3:
            bit = code_node(model, bit, grid + FIRST_MANTISSA + 8 * min(bits - 1, 8) + result)
        else:
            bit = code_plainly(model, bit, 1)
        result = result << 1 | bit
    return -result if negative else result


@njit(nogil=True, error_model="numpy")
def code_plane(model, starts, tables, plane, said):  # type: ignore[no-untyped-def]
    """All codes of `plane`, row by row; a reader fills it and `said`. `starts` are those of the contexts."""
    codes, after, states, contexts, mirrored = plane.codes, plane.after, plane.states, model.contexts, model.mirrored
    for place in range(len(said)):
        said[place] = code_plainly(model, said[place], 8)
    for place in (ROW_PRIOR, COLUMN_PRIOR):
        said[place] = min(said[place], PRIOR_LIMIT)
    level = said[LEVEL] + LEAST_LOG
    rows, columns = codes.shape
    row_start = first_averages(tables, level, plane.row_logs, said[ROW_SLOPE])
    average = first_averages(tables, level, plane.column_logs, said[COLUMN_SLOPE])
    row_prior, column_prior = 1 << (said[ROW_PRIOR] // 2), 1 << (said[COLUMN_PRIOR] // 2)
    forgetful, column_sign = average.copy(), np.zeros(columns, np.int64)
    code_states(model, states, len(after))
    forecasting = said[FORECAST] > 0 and len(plane.forecast.sums) == columns
    for row in range(rows):
        row_average, row_sign, left, corner = row_start[row], 0, 0, 0
        if forecasting:
            keep_fitted(plane.forecast, codes, row)
        for column in range(columns):
            above = codes[row - 1, column] if row else 0
            before = codes[row - 2, column] if row > 1 else 0
            row_log = logarithm(tables.logarithms, row_average)
            column_log = logarithm(tables.logarithms, average[column])
            lately = logarithm(tables.logarithms, forgetful[column])
            expected = clipped(row_log + column_log - level - LEAST_LOG, EXPECTATIONS - 1)
            row_side, side = side_of(row_sign, row_average), side_of(column_sign[column], average[column])
            likely, nearby = side, signs_of(left, above, corner)
            if forecasting and row >= FIRST_FIT:
                likely = side_of(expected_code(plane.forecast, codes[row], column) << 4, average[column])
            contexts[0] = expected
            contexts[1] = clipped((column_log - level + 32) >> 1, 31) * 32 + clipped((row_log - level + 32) >> 1, 31)
            contexts[2] = clipped(row_log + lately - level - LEAST_LOG, EXPECTATIONS - 1)
            contexts[3] = min(abs(above), 15) * 16 + min(abs(before), 15)
            mirrored[:] = contexts
            contexts[4], mirrored[4] = side * SIGN_PARTS + row_side, SIGN_PARTS**2 - 1 - side * SIGN_PARTS - row_side
            contexts[5], mirrored[5] = nearby, 26 - nearby
            contexts[6] = expected * SIGN_PARTS + likely
            mirrored[6] = expected * SIGN_PARTS + SIGN_PARTS - 1 - likely
            for place in range(len(contexts)):
                contexts[place] = contexts[place] * 2 * CODE_NODES + starts[place]
                mirrored[place] = mirrored[place] * 2 * CODE_NODES + starts[place]
            left = code_code(model, codes[row, column], OTHER_GRID * (states[column] & 1))
            codes[row, column], corner = left, above
            if len(after):
                states[column] = after[states[column], left & 1]
            size, signed = abs(left) << 16, left << 16
            across, along = scaled(tables, size, level - column_log), scaled(tables, size, level - row_log)
            row_average += (across - row_average) // (column + row_prior + 1)
            average[column] += (along - average[column]) // (row + column_prior + 1)
            forgetful[column] += (along - forgetful[column]) // min(row + 4, FORGETTING)
            row_sign += (signed - row_sign) // (column + SIGN_PRIOR)
            column_sign[column] += (signed - column_sign[column]) // (row + SIGN_PRIOR)


@njit(nogil=True, error_model="numpy")
def first_averages(tables, level, logs, slope):  # type: ignore[no-untyped-def]
    """Expected magnitudes, of 1/65536, of rows or columns of which only the logarithms of the steps are known."""
    mean = logs.sum() // max(len(logs), 1)
    averages = np.zeros(len(logs), np.int64)
    for place in range(len(logs)):
        turn = (logs[place] - mean) * (slope - SLOPE_OFFSET) // SLOPE_PARTS
        averages[place] = scaled(tables, scaled(tables, 65536, level - 256), turn)
    return averages


@njit(nogil=True, error_model="numpy")
def code_states(model, states, count):  # type: ignore[no-untyped-def]
    """The state of every column before the first row, of a trellis of `count` states."""
    bits = 0
    while 1 << bits < count:
        bits += 1
    for column in range(len(states)):
        states[column] = code_plainly(model, states[column], bits)
