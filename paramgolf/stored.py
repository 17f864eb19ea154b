"""A stored weight is a sum of terms; each knows its dense form and the arrays that must be kept.

Crosses from quant, which makes it, to artifact, which writes it. Every term is a matrix (rows, columns), see
`rows_and_columns`, and lives on the CPU: decoding is one conversion and one fp32 multiplication a weight and one
addition a further term, in that order and on the CPU only, so that the weights scored on any device are the same bits.
"""

from dataclasses import dataclass
from enum import Enum
from math import prod
from typing import ClassVar, NamedTuple, Protocol, Self

import torch
from torch import Tensor

from paramgolf.errors import ArtifactError


class StreamKind(Enum):
    """What the numbers of a stream are; fixes their type."""

    FLOATS = "floats"
    HALVES = "halves"
    SCALES = "scales"
    CODES = "codes"
    WIDE_CODES = "wide codes"
    PACKED = "packed codes"
    STEPS = "steps"


NUMBER_TYPES = {
    StreamKind.FLOATS: torch.float32,
    StreamKind.HALVES: torch.float16,
    StreamKind.SCALES: torch.float16,
    StreamKind.CODES: torch.int8,
    StreamKind.WIDE_CODES: torch.int16,
    StreamKind.PACKED: torch.uint8,
    StreamKind.STEPS: torch.int8,
}
"""How torch holds the numbers of a stream."""
FILE_TYPES = {
    StreamKind.FLOATS: "<f4",
    StreamKind.HALVES: "<f2",
    StreamKind.SCALES: "<f2",
    StreamKind.CODES: "<i1",
    StreamKind.WIDE_CODES: "<i2",
    StreamKind.PACKED: "|u1",
    StreamKind.STEPS: "<i1",
}
"""How a file does, as numpy spells it: little-endian."""


class Piece(NamedTuple):
    """One array of a term: the stream it goes to and its shape."""

    kind: StreamKind
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Its length in bytes."""
        return prod(self.shape) * NUMBER_TYPES[self.kind].itemsize


class Term(Protocol):
    """One summand of a stored weight.

    `identity` and `settings` are all that an artifact says of a term; with the weight's shape they determine
    `layout`, so that a reader never takes a size from a file.
    """

    identity: ClassVar[int]
    """The byte that names the kind of term in an artifact; never reused."""

    @property
    def settings(self) -> bytes:
        """What `layout` and `rebuild` need beside the shape; at most 255 bytes."""
        ...

    def dense(self) -> Tensor:
        """(rows, columns) fp32 on the CPU; the same bits on every machine."""
        ...

    def arrays(self) -> tuple[Tensor, ...]:
        """What must be kept, in the order of `layout`."""
        ...

    @staticmethod
    def layout(settings: bytes, rows: int, columns: int) -> tuple[Piece, ...]:
        """The arrays of such a term of a (rows, columns) weight. Raises `ValueError` for foreign settings."""
        ...

    @classmethod
    def rebuild(cls, settings: bytes, arrays: tuple[Tensor, ...]) -> Self:
        """The term whose `arrays` these are."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class Plain:
    """Values kept as floating-point numbers (catalogue Q2, Q8)."""

    identity: ClassVar[int] = 1
    values: Tensor
    """(rows, columns) fp16 or fp32."""

    def __post_init__(self) -> None:
        require(self.values, torch.float16, torch.float32)

    @property
    def settings(self) -> bytes:
        """Bits of a value."""
        return bytes([8 * self.values.element_size()])

    def dense(self) -> Tensor:
        """(rows, columns) fp32: the values, converted exactly."""
        return self.values.float()

    def arrays(self) -> tuple[Tensor, ...]:
        """The values."""
        return (self.values,)

    @staticmethod
    def layout(settings: bytes, rows: int, columns: int) -> tuple[Piece, ...]:
        """One stream, of floats or of halves."""
        kinds = {b"\x10": StreamKind.HALVES, b"\x20": StreamKind.FLOATS}
        if settings not in kinds:
            raise ValueError(f"plain values have 16 or 32 bits, not settings {settings.hex()!r}")
        return (Piece(kinds[settings], (rows, columns)),)

    @classmethod
    def rebuild(cls, settings: bytes, arrays: tuple[Tensor, ...]) -> Self:
        """From the values."""
        (values,) = arrays
        return cls(values=values)


@dataclass(frozen=True, kw_only=True, eq=False)
class Grid:
    """Integer codes times one scale a row (catalogue Q1, Q4, Q5)."""

    identity: ClassVar[int] = 2
    codes: Tensor
    """(rows, columns) int8, or int16 when `bits` > 8."""
    scale: Tensor
    """(rows,) fp16: the step of each row."""
    bits: int
    """Codes lie in ±(2^(bits-1) - 1)."""

    def __post_init__(self) -> None:
        require(self.codes, torch.int8 if self.bits <= 8 else torch.int16)
        require(self.scale, torch.float16)
        assert 2 <= self.bits <= 16, self.bits
        assert self.scale.shape == self.codes.shape[:1], (self.scale.shape, self.codes.shape)

    @property
    def settings(self) -> bytes:
        """Bits of a code."""
        return bytes([self.bits])

    def dense(self) -> Tensor:
        """(rows, columns) fp32: fp32(code) · fp32(scale), one rounding."""
        return self.codes.float() * self.scale.float().unsqueeze(1)

    def arrays(self) -> tuple[Tensor, ...]:
        """The codes, then the scales."""
        return self.codes, self.scale

    @staticmethod
    def layout(settings: bytes, rows: int, columns: int) -> tuple[Piece, ...]:
        """Codes of one or two bytes, and a scale a row."""
        if len(settings) != 1 or not 2 <= settings[0] <= 16:
            raise ValueError(f"a grid has 2 to 16 bits, not settings {settings.hex()!r}")
        kind = StreamKind.CODES if settings[0] <= 8 else StreamKind.WIDE_CODES
        return Piece(kind, (rows, columns)), Piece(StreamKind.SCALES, (rows,))

    @classmethod
    def rebuild(cls, settings: bytes, arrays: tuple[Tensor, ...]) -> Self:
        """From codes and scales."""
        codes, scale = arrays
        return cls(codes=codes, scale=scale, bits=settings[0])


@dataclass(frozen=True, kw_only=True, eq=False)
class PackedCodes:
    """Codes of two or three values, several to a byte, times one scale for a group of columns (catalogue Q10).

    Written row by row without gaps; in a byte the first code is the lowest digit.
    """

    identity: ClassVar[int]
    values: ClassVar[tuple[int, ...]]
    """What digits 0, 1, … stand for."""
    to_a_byte: ClassVar[int]
    """Digits in a byte."""
    codes: Tensor
    """(rows, columns) int8, each one of `values`."""
    scale: Tensor
    """(rows, ceil(columns / group)) fp16."""
    group: int
    """Columns that share a scale; a power of two from 2 to 32768."""

    def __post_init__(self) -> None:
        require(self.codes, torch.int8)
        require(self.scale, torch.float16)
        rows, columns = self.codes.shape
        assert self.scale.shape == (rows, -(-columns // self.group)), (self.scale.shape, self.codes.shape)
        assert self.group in [2**n for n in range(1, 16)], self.group

    @property
    def settings(self) -> bytes:
        """Binary logarithm of the group, and how many digits of the last byte stand for nothing."""
        return bytes([self.group.bit_length() - 1, -self.codes.numel() % self.to_a_byte])

    def dense(self) -> Tensor:
        """(rows, columns) fp32: fp32(code) · fp32(scale), exact."""
        wide = self.scale.float().repeat_interleave(self.group, dim=1)[:, : self.codes.shape[1]]
        return self.codes.float() * wide

    def arrays(self) -> tuple[Tensor, ...]:
        """The digits, packed, then the scales."""
        digits = (self.codes.flatten().int() - self.values[0]) // (self.values[1] - self.values[0])
        full = torch.nn.functional.pad(digits, (0, -len(digits) % self.to_a_byte)).view(-1, self.to_a_byte)
        return (full * self.worth()).sum(1).to(torch.uint8), self.scale

    @classmethod
    def worth(cls) -> Tensor:
        """(to_a_byte,) what each digit counts in its byte."""
        return len(cls.values) ** torch.arange(cls.to_a_byte, dtype=torch.int32)

    @classmethod
    def layout(cls, settings: bytes, rows: int, columns: int) -> tuple[Piece, ...]:
        """Packed digits, and a scale for each group."""
        spare = -rows * columns % cls.to_a_byte
        if len(settings) != 2 or not 1 <= settings[0] <= 15 or settings[1] != spare:
            raise ValueError(f"packed codes have groups of 2 to 32768 columns, not settings {settings.hex()!r}")
        packed = Piece(StreamKind.PACKED, (-(-rows * columns // cls.to_a_byte),))
        return packed, Piece(StreamKind.SCALES, (rows, -(-columns // 2 ** settings[0])))

    @classmethod
    def rebuild(cls, settings: bytes, arrays: tuple[Tensor, ...]) -> Self:
        """From packed digits and scales. Raises `ArtifactError` for a byte that no digits make."""
        packed, scale = arrays
        last = len(cls.values) ** cls.to_a_byte - 1
        if packed.numel() and int(packed.max()) > last:
            raise ArtifactError(
                "a stored weight holds a code that does not exist",
                evidence=f"byte {int(packed.max())} of packed codes; {last} is the last",
                fix="copy the file again, or export again",
            )
        digits = (packed.int().unsqueeze(1) // cls.worth()) % len(cls.values)
        codes = digits.flatten() * (cls.values[1] - cls.values[0]) + cls.values[0]
        rows = scale.shape[0]
        columns = (codes.numel() - settings[1]) // rows if rows else 0
        return cls(
            codes=codes[: rows * columns].view(rows, columns).to(torch.int8),
            scale=scale if rows else scale[:, :0],
            group=1 << settings[0],
        )


class Trits(PackedCodes):
    """Codes of -1, 0 and 1, five to a byte."""

    identity: ClassVar[int] = 8
    values: ClassVar[tuple[int, ...]] = (-1, 0, 1)
    to_a_byte: ClassVar[int] = 5


class Signs(PackedCodes):
    """Codes of -1 and 1, eight to a byte."""

    identity: ClassVar[int] = 9
    values: ClassVar[tuple[int, ...]] = (-1, 1)
    to_a_byte: ClassVar[int] = 8


class Stored(NamedTuple):
    """One weight as it is kept: the sum of its terms; of none, zeros."""

    shape: tuple[int, ...]
    terms: tuple[Term, ...]

    def dense(self) -> Tensor:
        """Tensor of `shape`, fp32 on the CPU; terms are added from the left."""
        first, *others = [term.dense() for term in self.terms] or [torch.zeros(self.shape)]
        return sum(others, first).reshape(self.shape)


def rows_and_columns(shape: tuple[int, ...]) -> tuple[int, int]:
    """The matrix that a weight of `shape` is stored as.

    A vector or scalar is one row; of more than two dimensions all but the last count as rows, so that a stack of
    matrices keeps a scale for each of their rows.
    """
    if len(shape) < 2:
        return 1, prod(shape)
    return prod(shape[:-1]), shape[-1]


def require(tensor: Tensor, *dtypes: torch.dtype) -> None:
    """Assert that an array of a term is of one of `dtypes` and on the CPU, where alone it is decoded."""
    assert tensor.dtype in dtypes, f"{tensor.dtype} is not one of {dtypes}"
    assert tensor.device.type == "cpu", f"stored weights live on the CPU, not on {tensor.device}"
