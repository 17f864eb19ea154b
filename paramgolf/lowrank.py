"""The term of a low-rank correction: the product of two small factors, each kept as integer codes (catalogue Q9)."""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Self

import torch
from torch import Tensor

from paramgolf.stored import Piece, StreamKind, require

MOST_RANK = 255
WHOLE = 0
"""The group of a factor that has one scale for all of it."""


class Factor(NamedTuple):
    """A small matrix as codes, with one scale for every `group` elements of it, counted row by row."""

    codes: Tensor
    """(rows, columns) int8."""
    scale: Tensor
    """(groups,) fp16."""
    group: int
    """Elements that share a scale, a divisor of how many there are; `WHOLE`: all."""

    def dense(self) -> Tensor:
        """(rows, columns) fp32: fp32(code) · fp32(scale), one rounding."""
        wide = self.scale.float().repeat_interleave(self.group or self.codes.numel())
        return self.codes.float() * wide[: self.codes.numel()].view_as(self.codes)


@dataclass(frozen=True, kw_only=True, eq=False)
class LowRank:
    """`left` · `right`, both coded; the sum runs over the rank from the first to the last."""

    identity: ClassVar[int] = 10
    left: Factor
    """(rows, rank)."""
    right: Factor
    """(rank, columns)."""

    def __post_init__(self) -> None:
        assert self.left.codes.shape[1] == self.right.codes.shape[0] <= MOST_RANK
        for factor in (self.left, self.right):
            require(factor.codes, torch.int8)
            require(factor.scale, torch.float16)
            assert len(factor.scale) == groups_of(factor.codes.numel(), factor.group), factor.group

    @property
    def settings(self) -> bytes:
        """The rank, then the groups of both factors, four bytes each."""
        groups = (factor.group.to_bytes(4, "little") for factor in (self.left, self.right))
        return bytes([self.right.codes.shape[0]]) + b"".join(groups)

    def dense(self) -> Tensor:
        """(rows, columns) fp32: one product and one sum a weight and rank, each rounded once, in this order."""
        left, right = self.left.dense(), self.right.dense()
        total = torch.zeros(left.shape[0], right.shape[1])
        for place in range(right.shape[0]):
            # Two roundings, as written: a matrix product would sum in an order of the library's own.
            total += left[:, place : place + 1] * right[place]
        return total

    def arrays(self) -> tuple[Tensor, ...]:
        """Codes and scales of the left factor, then of the right."""
        return self.left.codes, self.left.scale, self.right.codes, self.right.scale

    @staticmethod
    def layout(settings: bytes, rows: int, columns: int) -> tuple[Piece, ...]:
        """Codes and scales of both factors."""
        if len(settings) != 9 or not settings[0]:
            raise ValueError(f"a low-rank term has a rank and two groups, not settings {settings.hex()!r}")
        rank, groups = settings[0], (int.from_bytes(settings[1:5], "little"), int.from_bytes(settings[5:], "little"))
        pieces: list[Piece] = []
        for shape, group in zip(((rows, rank), (rank, columns)), groups, strict=True):
            scales = groups_of(shape[0] * shape[1], group)
            pieces += (Piece(StreamKind.CODES, shape), Piece(StreamKind.SCALES, (scales,)))
        return tuple(pieces)

    @classmethod
    def rebuild(cls, settings: bytes, arrays: tuple[Tensor, ...]) -> Self:
        """From codes and scales."""
        left, left_scale, right, right_scale = arrays
        groups = (int.from_bytes(settings[1:5], "little"), int.from_bytes(settings[5:], "little"))
        return cls(left=Factor(left, left_scale, groups[0]), right=Factor(right, right_scale, groups[1]))


def groups_of(numbers: int, group: int) -> int:
    """How many scales `numbers` codes in groups of `group` have. Raises `ValueError` when they do not divide."""
    if group == WHOLE:
        return 1
    if numbers % group:
        raise ValueError(f"the settings say groups of {group}, which {numbers} codes do not divide into")
    return numbers // group
