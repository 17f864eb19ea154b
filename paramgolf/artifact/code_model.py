"""What the coder of weights expects of an integer code, and how it says a code in bits.

A code is said as: zero? negative? at least 2, 4, 8, …? then the bits below its highest, the first three of which have
chances of their own. What predicts them is the magnitude that the row and the column of a code lead to expect,

    expected = level · row average / level · column average / level

where each average is of the magnitudes so far, every one divided by what the other direction expects, and starts from
the level as if some codes had been seen; how many, the writer says, who knows how much rows and columns differ. Beside
it: both averages apart, a column average that forgets, the codes above, signs nearby and the averages of signs, and of
trellis codes the grid that the next code is of (catalogue C10, H22, H23).
"""

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from paramgolf.artifact.bits import Integers, ModelSize, code_node, code_plainly

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
LEVEL, ROW_PRIOR, COLUMN_PRIOR, ROW_SLOPE, COLUMN_SLOPE = range(5)
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
    states: Integers
    """(columns,) the state of every column before the first row: read by a writer, filled by a reader."""


def plane_tables() -> PlaneTables:
    """The tables; their entries are not near to where two libraries could round differently."""
    logs = np.rint(LOG_PARTS * np.log2(np.arange(1, 1 << 15))).astype(np.int64)
    return PlaneTables(np.concatenate((logs[:1], logs)), (65536 * 2 ** (np.arange(-256, 257) / LOG_PARTS)).astype(int))


def said_of(plane: Plane) -> Integers:
    """(5,) what a writer says of a plane before its codes: level, priors, slopes."""
    magnitudes = np.abs(plane.codes).astype(np.float64)
    said = np.array([0, PRIOR_LIMIT, PRIOR_LIMIT, SLOPE_OFFSET, SLOPE_OFFSET])
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
def bounded(number, most):  # type: ignore[no-untyped-def]
    """`number`, within 0 and `most`."""
    return min(max(number, 0), most)


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
    codes, after, contexts = plane.codes, plane.after, model.contexts
    for place in range(5):
        said[place] = code_plainly(model, said[place], 8)
    level = said[LEVEL] + LEAST_LOG
    start = scaled(tables, 1, level) if level < 256 else scaled(tables, 65536, level - 256)
    rows, columns = codes.shape
    row_mean, column_mean = log_mean(plane.row_logs), log_mean(plane.column_logs)
    row_prior, column_prior = 1 << (said[ROW_PRIOR] // 2), 1 << (said[COLUMN_PRIOR] // 2)
    average, forgetful = np.zeros(columns, np.int64), np.zeros(columns, np.int64)
    column_sign = np.zeros(columns, np.int64)
    state_bits = 0
    while 1 << state_bits < len(after):
        state_bits += 1
    for column in range(columns):
        slope = (plane.column_logs[column] - column_mean) * (said[COLUMN_SLOPE] - SLOPE_OFFSET) // SLOPE_PARTS
        average[column] = scaled(tables, start, slope)
        forgetful[column] = average[column]
        plane.states[column] = code_plainly(model, plane.states[column], state_bits)
    for row in range(rows):
        slope = (plane.row_logs[row] - row_mean) * (said[ROW_SLOPE] - SLOPE_OFFSET) // SLOPE_PARTS
        row_average = scaled(tables, start, slope)
        row_sign, left, corner = 0, 0, 0
        for column in range(columns):
            above = codes[row - 1, column] if row else 0
            before = codes[row - 2, column] if row > 1 else 0
            row_log = logarithm(tables.logarithms, row_average)
            column_log = logarithm(tables.logarithms, average[column])
            expected = bounded(row_log + column_log - level - LEAST_LOG, EXPECTATIONS - 1)
            lately = logarithm(tables.logarithms, forgetful[column])
            row_bias = bounded(8 * row_sign // (row_average + 1) + 8, SIGN_PARTS - 1)
            bias = bounded(8 * column_sign[column] // (average[column] + 1) + 8, SIGN_PARTS - 1)
            contexts[0] = expected
            contexts[1] = bounded((column_log - level + 32) >> 1, 31) * 32 + bounded((row_log - level + 32) >> 1, 31)
            contexts[2] = bounded(row_log + lately - level - LEAST_LOG, EXPECTATIONS - 1)
            contexts[3] = min(abs(above), 15) * 16 + min(abs(before), 15)
            contexts[4] = bias * SIGN_PARTS + row_bias
            contexts[5] = signs_of(left, above, corner)
            contexts[6] = expected * SIGN_PARTS + bias
            for place in range(len(contexts)):
                contexts[place] = contexts[place] * 2 * CODE_NODES + starts[place]
            grid = OTHER_GRID * (plane.states[column] & 1)
            left = code_code(model, codes[row, column], grid)
            codes[row, column], corner = left, above
            if len(after):
                plane.states[column] = after[plane.states[column], left & 1]
            size = abs(left) << 16
            row_average += (scaled(tables, size, level - column_log) - row_average) // (column + row_prior + 1)
            plain = scaled(tables, size, level - row_log)
            average[column] += (plain - average[column]) // (row + column_prior + 1)
            forgetful[column] += (plain - forgetful[column]) // min(row + 4, FORGETTING)
            row_sign += ((left << 16) - row_sign) // (column + SIGN_PRIOR)
            column_sign[column] += ((left << 16) - column_sign[column]) // (row + SIGN_PRIOR)


@njit(nogil=True, error_model="numpy")
def log_mean(logs):  # type: ignore[no-untyped-def]
    """The mean of logarithms, rounded down."""
    return logs.sum() // max(len(logs), 1)
