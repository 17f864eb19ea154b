"""Steps of rows: rounding them to what is stored, and choosing the best of several."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

MANTISSA = 10
"""Bits of an fp16 number's mantissa."""


class RowGrid(NamedTuple):
    """A matrix as whole numbers times a step a row."""

    codes: Tensor
    """(rows, columns) whole numbers in fp32."""
    scale: Tensor
    """(rows,) fp16."""


def row_deviation(matrix: Tensor) -> Tensor:
    """(rows,) σ of each row about zero, as weights have no mean: so a row of one value keeps its size."""
    return matrix.square().mean(1).sqrt() if matrix.shape[1] else matrix.new_zeros(matrix.shape[0])


def stored_scale(scale: Tensor, mantissa: int = MANTISSA) -> Tensor:
    """fp16 form of fp32 `scale`, to nearest, with `mantissa` bits behind the leading one; the rest are zeros."""
    dropped = MANTISSA - mantissa
    half = scale.half()
    if not dropped:
        return half
    bits = half.view(torch.int16).int()
    # A carry out of the mantissa moves the exponent up, as rounding must.
    return (((bits + (1 << (dropped - 1))) >> dropped) << dropped).to(torch.int16).view(torch.float16)


def refuse_mantissa(mantissa: int) -> None:
    """Raise `ValueError` unless an fp16 step can keep `mantissa` bits behind the leading one."""
    if not 0 <= mantissa <= MANTISSA:
        raise ValueError(f"an fp16 step keeps 0 to {MANTISSA} bits of its mantissa, not {mantissa}")


def best_grid(matrix: Tensor, scales: Tensor, codes: Sequence[Tensor], *, by_row: bool) -> RowGrid:
    """The alternative of least squared error, for all rows together or `by_row`; of equals the first.

    `scales` (alternatives, rows) are fp16 steps, `codes` the (rows, columns) codes with each.
    """
    best = RowGrid(codes[0], scales[0])
    if len(codes) == 1:
        return best
    errors = torch.stack([row_errors(matrix, RowGrid(*each)) for each in zip(codes, scales, strict=True)])
    chosen = (errors if by_row else errors.sum(1, keepdim=True).expand_as(errors)).argmin(0)
    for place in range(1, len(codes)):
        here = chosen == place
        best = RowGrid(
            torch.where(here.unsqueeze(1), codes[place], best.codes), torch.where(here, scales[place], best.scale)
        )
    return best


def row_errors(matrix: Tensor, grid: RowGrid) -> Tensor:
    """(rows,) squared error of each row of `matrix` on `grid`."""
    return (grid.codes * grid.scale.float().unsqueeze(1) - matrix).square().sum(1)
