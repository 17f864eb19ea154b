"""The term of a span of columns kept on a finer grid than the rest of their matrix (catalogue Q14)."""

from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor

from paramgolf.stored import Piece, StreamKind, require


@dataclass(frozen=True, kw_only=True, eq=False)
class ColumnSpan:
    """Codes times one scale a row in the columns from `start` on, zero elsewhere."""

    identity: ClassVar[int] = 11
    codes: Tensor
    """(rows, width) int8."""
    scale: Tensor
    """(rows,) fp16."""
    start: int
    """The first of the columns."""
    columns: int
    """Of the whole matrix."""

    def __post_init__(self) -> None:
        require(self.codes, torch.int8)
        require(self.scale, torch.float16)
        assert self.scale.shape == self.codes.shape[:1], (self.scale.shape, self.codes.shape)
        assert 0 <= self.start <= self.columns - self.codes.shape[1], (self.start, self.columns)

    @property
    def settings(self) -> bytes:
        """First column, width and width of the whole, four bytes each."""
        return b"".join(number.to_bytes(4, "little") for number in (self.start, self.codes.shape[1], self.columns))

    def dense(self) -> Tensor:
        """(rows, columns) fp32: fp32(code) · fp32(scale), one rounding, and zeros beside the span."""
        whole = torch.zeros(self.codes.shape[0], self.columns)
        whole[:, self.start : self.start + self.codes.shape[1]] = self.codes.float() * self.scale.float().unsqueeze(1)
        return whole

    def arrays(self) -> tuple[Tensor, ...]:
        """The codes, then the scales."""
        return self.codes, self.scale

    @staticmethod
    def layout(settings: bytes, rows: int, columns: int) -> tuple[Piece, ...]:
        """Codes of the span, and a scale a row."""
        start, width, whole = span_of(settings)
        if whole != columns or not 0 < width <= columns - start:
            raise ValueError(
                f"the settings say columns {start} to {start + width} of {whole}, the weight has {columns}"
            )
        return Piece(StreamKind.CODES, (rows, width)), Piece(StreamKind.SCALES, (rows,))

    @classmethod
    def rebuild(cls, settings: bytes, arrays: tuple[Tensor, ...]) -> Self:
        """From codes and scales."""
        codes, scale = arrays
        start, _, whole = span_of(settings)
        return cls(codes=codes, scale=scale, start=start, columns=whole)


def span_of(settings: bytes) -> tuple[int, int, int]:
    """First column, width and width of the whole. Raises `ValueError` for foreign settings."""
    if len(settings) != 12:
        raise ValueError(f"a span of columns has three numbers, not settings {settings.hex()!r}")
    start, width, whole = (int.from_bytes(settings[place : place + 4], "little") for place in (0, 4, 8))
    return start, width, whole
