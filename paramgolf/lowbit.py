"""Ternary and binary weights in groups of columns: the arithmetic that training and export share.

Shapes: a weight (rows, columns), its groups of `group` neighbouring columns, the last one perhaps shorter.
"""

from typing import Literal, NamedTuple, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor


class LowBit(NamedTuple):
    """A form of low-bit weights."""

    kind: Literal["ternary", "binary"]
    group: int
    """Columns that share a scale."""

    def __str__(self) -> str:
        return f"{self.kind} in groups of {self.group}"


@runtime_checkable
class LowBitFiller(Protocol):
    """What trains (`model.linear`) or keeps (`quant.*`) low-bit weights says in which form, so that both are one."""

    @property
    def low_bit(self) -> LowBit:
        """The form."""
        ...


def low_bit_of(filler: object) -> LowBit | None:
    """The form of low-bit weights that `filler` of a slot trains or keeps, if it does."""
    return filler.low_bit if isinstance(filler, LowBitFiller) else None


class GroupedCodes(NamedTuple):
    """A weight as codes of magnitude one or zero and the mean magnitude of each group."""

    codes: Tensor
    """(rows, columns), whole numbers in the weight's dtype."""
    scale: Tensor
    """(rows, groups), mean |w|."""


def in_groups(matrix: Tensor, group: int) -> Tensor:
    """(rows, columns) -> (rows, groups, group), zeros beyond the last column."""
    rows, columns = matrix.shape
    groups = -(-columns // group)
    return F.pad(matrix, (0, groups * group - columns)).view(rows, groups, group)


def group_means(magnitudes: Tensor, group: int) -> Tensor:
    """(rows, groups) mean of `magnitudes` (rows, columns) over each group."""
    columns = magnitudes.shape[1]
    starts = torch.arange(0, columns, group, device=magnitudes.device)
    return in_groups(magnitudes, group).sum(-1) / (columns - starts).clamp_max(group)


def over_columns(scale: Tensor, group: int, columns: int) -> Tensor:
    """(rows, groups) -> (rows, columns): the number of each column's group."""
    return scale.repeat_interleave(group, dim=1)[:, :columns]


def ternary_codes(matrix: Tensor, group: int) -> GroupedCodes:
    """BitNet b1.58 (arXiv 2402.17764): s = mean |w|, code = round(w / s) within ±1; zeros where s is zero."""
    scale = group_means(matrix.abs(), group)
    wide = over_columns(scale, group, matrix.shape[1])
    return GroupedCodes(torch.where(wide > 0, matrix / wide, 0).round().clamp(-1, 1), scale)


def binary_codes(matrix: Tensor, group: int) -> GroupedCodes:
    """XNOR-Net weights (arXiv 1603.05279): s = mean |w|, code = sign(w), that of zero being +1."""
    return GroupedCodes(torch.where(matrix < 0, -1.0, 1.0), group_means(matrix.abs(), group))


def straight_through(weight: Tensor, value: Tensor) -> Tensor:
    """`value`, bit for bit, with the gradient of `weight`."""
    # In this order the difference is exactly zero; `weight + (value - weight)` would round.
    return value.detach() + (weight - weight.detach())


def refuse_group(group: int) -> None:
    """Raise `ValueError` unless a stored weight can have groups of `group` columns."""
    if group < 2 or group > 32768 or group & (group - 1):
        raise ValueError(f"a group has a power of two of columns from 2 to 32768, not {group}")
