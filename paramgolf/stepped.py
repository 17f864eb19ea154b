"""Integer codes times a step of their row and a step of their column, both powers of the eighth root of two.

Source: quantization catalogue Q17, H17, H18 and H21; arXiv 2603.04956. An eighth of an octave, rounded to, costs 0.0009
bits a weight for rows and as much for columns; a step costs one byte before the coder, where fp16 scales cost two.
"""

import math
import struct
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Self

import torch
from torch import Tensor

from paramgolf.stored import Piece, StreamKind, require

EIGHTHS = (8388608, 9147842, 9975792, 10878679, 11863283, 12937002, 14107901, 15384775)
"""2^(n/8) for n = 0..7, times 2^23, to the nearest integer: written out, as no two libraries promise the same power."""
STEP_PARTS = 8
"""Steps to an octave."""
SHRINK_PARTS = 64
"""Parts of a code by which the centroid of its values may lie nearer to zero."""
BASE_LIMIT = 2.0**40
"""A base lies between this and its inverse, so that nothing overflows."""
STEPPED_SETTINGS = struct.Struct("<BfB")
HAS_ROW_STEPS, HAS_COLUMN_STEPS = 1, 2


class SteppedSettings(NamedTuple):
    """What the settings of a stepped term say."""

    flags: int
    """Which steps there are: `HAS_ROW_STEPS`, `HAS_COLUMN_STEPS`; above them what a kind of term adds."""
    base: float
    """What a step of 0 stands for."""
    shrink: int
    """In `SHRINK_PARTS` of a code."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Stepped:
    """Integers, drawn nearer to zero by a constant, times base times row step times column step."""

    identity: ClassVar[int] = 20
    codes: Tensor
    """(rows, columns) int8."""
    row_steps: Tensor | None
    """(rows,) int8 in eighths of an octave; None where all are 0."""
    column_steps: Tensor | None
    """(columns,) int8, likewise."""
    base: float
    """An fp32 number."""
    shrink: int = 0
    """In `SHRINK_PARTS` of a code, below one code."""

    def __post_init__(self) -> None:
        require(self.codes, torch.int8)
        for steps, length in zip((self.row_steps, self.column_steps), self.codes.shape, strict=True):
            if steps is not None:
                require(steps, torch.int8)
                assert steps.shape == (length,), (steps.shape, self.codes.shape)
        assert 1 / BASE_LIMIT <= self.base <= BASE_LIMIT, self.base
        assert 0 <= self.shrink < SHRINK_PARTS, self.shrink

    @property
    def flags(self) -> int:
        """Which steps there are."""
        return HAS_ROW_STEPS * (self.row_steps is not None) + HAS_COLUMN_STEPS * (self.column_steps is not None)

    @property
    def settings(self) -> bytes:
        """Flags, base and shrink."""
        return STEPPED_SETTINGS.pack(self.flags, self.base, self.shrink)

    def integers(self) -> Tensor:
        """(rows, columns) int32: what the codes stand for, before shrinking."""
        return self.codes.int()

    def dense(self) -> Tensor:
        """(rows, columns) fp32: (integer - shrink · sign) · (base · row step) · column step, a rounding a product.

        The first factor is exact, and so are the powers of two in a step.
        """
        integers = self.integers().float()
        values = integers - integers.sign() * (self.shrink / SHRINK_PARTS)
        base = torch.tensor(self.base, dtype=torch.float32)
        values = values * (base if self.row_steps is None else base * step_values(self.row_steps).unsqueeze(1))
        return values if self.column_steps is None else values * step_values(self.column_steps)

    def arrays(self) -> tuple[Tensor, ...]:
        """The codes, then the steps that there are."""
        steps = (self.row_steps, self.column_steps)
        return (self.codes, *(step for step in steps if step is not None))

    @classmethod
    def layout(cls, settings: bytes, rows: int, columns: int) -> tuple[Piece, ...]:
        """Codes of one byte, and a byte a row and a column where these have steps."""
        flags = stepped_settings(settings, cls.flags_allowed()).flags
        lengths = (rows,) * (flags & HAS_ROW_STEPS > 0) + (columns,) * (flags & HAS_COLUMN_STEPS > 0)
        return Piece(StreamKind.CODES, (rows, columns)), *(Piece(StreamKind.STEPS, (length,)) for length in lengths)

    @staticmethod
    def flags_allowed() -> frozenset[int]:
        """The flags that a file may hold."""
        return frozenset(range(4))

    @classmethod
    def rebuild(cls, settings: bytes, arrays: tuple[Tensor, ...]) -> Self:
        """From codes and steps."""
        flags, base, shrink = stepped_settings(settings, cls.flags_allowed())
        codes, *steps = arrays
        row_steps = steps.pop(0) if flags & HAS_ROW_STEPS else None
        column_steps = steps.pop(0) if flags & HAS_COLUMN_STEPS else None
        return cls(codes=codes, row_steps=row_steps, column_steps=column_steps, base=base, shrink=shrink)


def stepped_settings(settings: bytes, allowed: frozenset[int]) -> SteppedSettings:
    """The settings of a stepped term, read. Raises `ValueError` for foreign ones."""
    if len(settings) == STEPPED_SETTINGS.size:
        read = SteppedSettings(*STEPPED_SETTINGS.unpack(settings))
        if read.flags in allowed and 1 / BASE_LIMIT <= read.base <= BASE_LIMIT and read.shrink < SHRINK_PARTS:
            return read
    raise ValueError(f"stepped codes have flags, a base and a shrinkage, not settings {settings.hex()!r}")


def step_values(steps: Tensor) -> Tensor:
    """fp32 2^(n/8) for the int8 `steps` n, exactly as `EIGHTHS` has them."""
    table = torch.tensor([math.ldexp(EIGHTHS[n % STEP_PARTS], n // STEP_PARTS - 23) for n in range(-128, 128)])
    return table[steps.long() + 128]


def nearest_steps(values: Tensor) -> Tensor:
    """The int8 steps nearest to positive `values` on the scale of logarithms, as far as a byte reaches."""
    return (values.double().log2() * STEP_PARTS).round().clamp(-127, 127).to(torch.int8)
