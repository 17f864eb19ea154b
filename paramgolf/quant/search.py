"""The choice of codes, column after column with error feedback: the cheapest of error and bits together.

Rows are independent given a column, so that within one the codes are chosen by Viterbi's algorithm down the rows
(trellis) or each for itself (plain grid). The cost of a code is `row weight · column weight · (value - point)² + bits`,
value and point in steps. Compiled, as it is a loop over every weight; deterministic. Nothing here is imported from
elsewhere, as what the compiler keeps on disk would not notice a change there.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

Floats = npt.NDArray[np.float32]
SEARCH_BLOCK = 64
"""Columns that feed errors on among themselves before they do to the rest."""
FED_ROWS = 1024
"""Rows that are fed at once, so that they stay near."""


class RowFacts(NamedTuple):
    """Each (rows,) fp32."""

    step: Floats
    weight: Floats
    """Of a squared step of error, in bits; times that of the column."""
    ratio: Floats
    """With that of the column: the place in the table of bits that deviation by step belongs to."""


class ColumnFacts(NamedTuple):
    """Each (columns,) fp32, as in `RowFacts`."""

    step: Floats
    weight: Floats
    ratio: Floats


class SearchRoom(NamedTuple):
    """Working memory for one column."""

    ways: npt.NDArray[np.uint8]
    choices: npt.NDArray[np.int16]
    costs: Floats
    points: Floats


class StateMachine(NamedTuple):
    """The trellis as `state_entries` gives it; of one state, a plain grid."""

    source: npt.NDArray[np.int32]
    branch: npt.NDArray[np.int32]


@njit(cache=True, nogil=True)
def choose_columns(
    values: Floats, factor: Floats, rows: RowFacts, columns: ColumnFacts, bits: Floats, machine: StateMachine
) -> tuple[npt.NDArray[np.int8], float]:
    """Codes (columns, rows) of all columns in their order, and the bits expected for them.

    `values` (columns, rows) are changed: errors are fed back. `factor` is the upper Cholesky factor of the inverse
    Hessian, as GPTQ uses it. Errors reach the columns of a block at once and those after it when it is done, by loops
    of our own: a library's product would depend on its threads, and would start threads under threads.
    """
    width, height = values.shape
    codes = np.zeros((width, height), np.int8)
    errors = np.empty((SEARCH_BLOCK, height), np.float32)
    states = len(machine.source)
    room = SearchRoom(
        np.empty((height, states), np.uint8),
        np.empty((height, 4), np.int16),
        np.empty((height, 4), np.float32),
        np.empty(height, np.float32),
    )
    spent = 0.0
    for start in range(0, width, SEARCH_BLOCK):
        end = min(start + SEARCH_BLOCK, width)
        for column in range(start, end):
            facts = (columns.step[column], columns.weight[column], columns.ratio[column])
            choose_column(values[column], rows, facts, bits, machine, room, codes[column])
            for row in range(height):
                error = values[column, row] - room.points[row] * (rows.step[row] * facts[0])
                errors[column - start, row] = error / factor[column, column]
                code, place = abs(codes[column, row]), rate_place(rows.ratio[row] + facts[2], bits)
                spent += bits[place, int(states > 1 and 2 * code > abs(room.points[row])), code]
            feed(values[column + 1 : end], factor[column, column + 1 : end], errors[column - start])
        for some in range(0, height, FED_ROWS):
            part = slice(some, some + FED_ROWS)
            for column in range(start, end):
                feed(values[end:, part], factor[column, end:], errors[column - start, part])
    return codes, spent


@njit(cache=True, nogil=True)
def feed(values, shares, error):  # type: ignore[no-untyped-def]
    """Subtract from every column its share of an error."""
    for column in range(len(shares)):
        share = shares[column]
        if share == 0:
            continue
        later = values[column]
        for row in range(len(error)):
            later[row] -= share * error[row]


@njit(cache=True, nogil=True)
def choose_column(values, rows, facts, bits, machine, room, codes):  # type: ignore[no-untyped-def]
    """The codes and points of one column."""
    if len(machine.source) == 1:
        choose_each(values, rows, facts, bits, codes, room.points)
    else:
        branch_costs(values, rows, facts, bits, room.choices, room.costs)
        best_path(machine, room.costs, room.choices, room.ways, codes, room.points)


@njit(cache=True, nogil=True)
def rate_place(place, bits):  # type: ignore[no-untyped-def]
    """The nearest row of the table of bits."""
    return min(max(round(place), 0), len(bits) - 1)


@njit(cache=True, nogil=True)
def choose_each(values, rows, facts, bits, codes, points):  # type: ignore[no-untyped-def]
    """Plain grid: of the nearest code toward zero, the one beyond and zero, the cheapest."""
    most = bits.shape[2] - 1
    for row in range(len(values)):
        value = values[row] / (rows.step[row] * facts[0])
        weight, place = rows.weight[row] * facts[1], rate_place(rows.ratio[row] + facts[2], bits)
        size = min(abs(value), float(most))
        low = min(int(size), most - 1)
        best, least = 0, weight * size * size + bits[place, 0, 0]
        for code in range(max(low, 1), low + 2):
            cost = weight * (size - code) ** 2 + bits[place, 0, code]
            if cost < least:
                best, least = code, cost
        codes[row] = best if value >= 0 else -best
        points[row] = codes[row]


@njit(cache=True, nogil=True)
def branch_costs(values, rows, facts, bits, choices, costs):  # type: ignore[no-untyped-def]
    """For every row and each of the four ways on (grid, parity): the best code and its cost."""
    most = bits.shape[2] - 1
    for row in range(len(values)):
        value = values[row] / (rows.step[row] * facts[0])
        weight, place = rows.weight[row] * facts[1], rate_place(rows.ratio[row] + facts[2], bits)
        size = min(abs(value), 2.0 * most - 3)
        for odd in range(2):
            for parity in range(2):
                near = max(int(np.floor((size + odd - 2 * parity) / 4 + 0.5)), 0) * 2 + parity
                least, best = np.inf, 0
                for code in range(max(near - 2, parity), near + 1, 2):
                    point = max(2 * code - odd, 0)
                    cost = weight * (size - point) ** 2 + bits[place, odd, code]
                    if cost < least:
                        least, best = cost, code
                costs[row, 2 * odd + parity] = least
                choices[row, 2 * odd + parity] = best if value >= 0 else -best


@njit(cache=True, nogil=True)
def best_path(machine, costs, choices, ways, codes, points):  # type: ignore[no-untyped-def]
    """The path of least cost from state 0: fills `codes` and `points`."""
    states = len(machine.source)
    paid = np.full(states, np.float32(1e30))
    paid[0] = 0
    after = np.empty(states, np.float32)
    for row in range(len(costs)):
        for state in range(states):
            one = paid[machine.source[state, 0]] + costs[row, machine.branch[state, 0]]
            two = paid[machine.source[state, 1]] + costs[row, machine.branch[state, 1]]
            ways[row, state] = two < one
            after[state] = min(one, two)
        # Costs are kept relative to one of them, so that fp32 is enough however many rows there are.
        shift = after[0] if after[0] < 1e29 else np.float32(0)
        for state in range(states):
            paid[state] = after[state] - shift
    state = int(np.argmin(paid))
    for row in range(len(costs) - 1, -1, -1):
        way = ways[row, state]
        branch = machine.branch[state, way]
        code = choices[row, branch]
        codes[row] = code
        points[row] = 2 * code - branch // 2 * np.sign(code)
        state = machine.source[state, way]
