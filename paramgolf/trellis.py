"""Trellis-coded codes: two interleaved grids, and the parities of the codes before say which one a code is of.

    integer = 2k                where the state is even
            = 2k - sign(k)      where it is odd
    state'  = half of it, and taps added where it was odd or k is

A code k has the rate of a grid of two steps and, with the best path through the states, an error not much above that of
a grid of one. The states run down the rows of a column, from 0: columns are decoded side by side. The state machine is
Ungerboeck's systematic feedback encoder of rate 1/2 with his parity polynomials, which serve any power of two from 4.
The odd grid keeps 0, as in video coding, so that zeros stay cheap; below zero two subsets change places, at no cost.
Source: quantization catalogue Q17, H22; Ungerboeck 1982, table I; Marcellin and Fischer 1990; ISO/IEC 15938-17.
"""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from paramgolf.stepped import Stepped, stepped_settings

PARITY_POLYNOMIALS = {
    4: (0o5, 0o2),
    8: (0o13, 0o4),
    16: (0o23, 0o4),
    32: (0o45, 0o10),
    64: (0o103, 0o24),
    128: (0o235, 0o126),
    256: (0o515, 0o362),
}
"""(h0, h1) by number of states."""
FIRST_TRELLIS_FLAG = 4
"""Flags of a trellis hold the binary logarithm of its states, from this bit on."""

StateTable = npt.NDArray[np.uint8]


def next_states(states: int) -> StateTable:
    """(states, 2): the state after one whose code is even, and after one whose code is odd."""
    taps_odd_state, taps_odd_code = (polynomial >> 1 for polynomial in PARITY_POLYNOMIALS[states])
    table = np.zeros((states, 2), np.uint8)
    for state in range(states):
        moved = (state >> 1) ^ (taps_odd_state if state % 2 else 0)
        table[state] = moved, moved ^ taps_odd_code
    return table


class StateEntries(NamedTuple):
    """Two ways into each state."""

    source: npt.NDArray[np.int32]
    """(states, 2): where each comes from."""
    branch: npt.NDArray[np.int32]
    """(states, 2): twice the parity of that state, plus that of its code."""


def state_entries(states: int) -> StateEntries:
    """`next_states` the other way round."""
    after = next_states(states)
    order = np.argsort(after.ravel(), kind="stable").reshape(states, 2)
    source = (order // 2).astype(np.int32)
    return StateEntries(source, (source % 2 * 2 + order % 2).astype(np.int32))


def odd_grid(codes: Tensor, states: int) -> Tensor:
    """(rows, columns) bool: which codes are of the odd grid. A coder of codes may use it as context."""
    after = next_states(states).ravel()
    parities = (codes.numpy() & 1).astype(np.intp)
    odd = np.empty(codes.shape, np.bool_)
    state = np.zeros(codes.shape[1], np.intp)
    for row in range(len(parities)):
        np.bitwise_and(state, 1, out=odd[row], casting="unsafe")
        state = after[2 * state + parities[row]].astype(np.intp)
    return torch.from_numpy(odd)


@dataclass(frozen=True, kw_only=True, eq=False)
class Trellis(Stepped):
    """Codes of two grids, told apart by a trellis down the rows, times the steps of `Stepped`."""

    identity: ClassVar[int] = 21
    states: int
    """One of `PARITY_POLYNOMIALS`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        assert self.states in PARITY_POLYNOMIALS, self.states

    @property
    def flags(self) -> int:
        """Which steps there are, and the binary logarithm of the number of states."""
        return super().flags + FIRST_TRELLIS_FLAG * (self.states.bit_length() - 1)

    def integers(self) -> Tensor:
        """(rows, columns) int32: the points of the finer grid that the codes stand for."""
        codes = self.codes.int()
        return 2 * codes - torch.where(odd_grid(self.codes, self.states), codes.sign(), 0)

    @staticmethod
    def flags_allowed() -> frozenset[int]:
        """The flags that a file may hold."""
        logarithms = (states.bit_length() - 1 for states in PARITY_POLYNOMIALS)
        return frozenset(FIRST_TRELLIS_FLAG * logarithm + steps for logarithm in logarithms for steps in range(4))

    @classmethod
    def rebuild(cls, settings: bytes, arrays: tuple[Tensor, ...]) -> Self:
        """From codes and steps."""
        flags = stepped_settings(settings, cls.flags_allowed()).flags
        plain = Stepped.rebuild(settings_of_steps(settings), arrays)
        return cls(
            codes=plain.codes,
            row_steps=plain.row_steps,
            column_steps=plain.column_steps,
            base=plain.base,
            shrink=plain.shrink,
            states=1 << flags // FIRST_TRELLIS_FLAG,
        )


def settings_of_steps(settings: bytes) -> bytes:
    """The settings of a trellis as those of the steps alone."""
    return bytes([settings[0] % FIRST_TRELLIS_FLAG]) + settings[1:]
