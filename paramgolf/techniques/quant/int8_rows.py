"""int8 rows: eight-bit codes with one fp16 scale a row, the export of the published baseline.

Formula, per row: clip = quantile(|w|, 0.9999984); s = fp16(max(clip / 127, floor)); q = clamp(round(w / s), ±127);
ŵ = q · s. Matrices only: vectors get one scale, and tensors of at most `keep` elements are kept as fp16.
Source: quantization catalogue Q1; 2026-03-17_NaiveBaseline.
Measured: tax 0.0072 bits per byte on the 9×512 baseline, about 7 coded bits a weight with zlib; 0.0065 of it comes
from the tied embedding (Q2).
Cost: one byte a weight before compression and two a row; under a second for 17 M weights.
Pitfalls: the floor of 1/127 on the *scale* makes the step of every row that stays below 1 in magnitude 1/127, however
small its weights are; it is what the baseline does, it is why its codes compress, and `floor=0` takes it away. Nothing
of a small model exceeds `keep`: there, set it to 0. Codes are relative to the scale after its rounding to fp16 (the
baseline's were relative to the scale before it), so that this rounding costs nothing.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from paramgolf.quant.rounding import nearest_codes, row_quantile
from paramgolf.registry import technique
from paramgolf.stored import Grid, Plain, Stored, rows_and_columns


@technique(
    "int8_rows",
    fills="quant.*",
    source="2026-03-17_NaiveBaseline",
    effect="tax +0.0072 at about 7 coded bits a weight",
)
@dataclass(frozen=True, kw_only=True)
class Int8Rows:
    """Eight-bit codes with one scale a row, clipped at a quantile."""

    needs_hessian: ClassVar[bool] = False

    quantile: float = 0.9999984
    """Share of a row's magnitudes that lie within the clip."""
    floor: float = 1 / 127
    """Least scale of a row; 0 for none."""
    keep: int = 65_536
    """Tensors of at most this many elements are kept as fp16 values."""

    def __post_init__(self) -> None:
        if not 0 <= self.quantile <= 1:
            raise ValueError(f"a quantile lies within 0 and 1, unlike {self.quantile}")
        if self.floor < 0:
            raise ValueError(f"the floor of a scale cannot be negative, as {self.floor} is")

    def __call__(self, weight: Tensor, hessian: Tensor | None) -> Stored:
        """Codes and scales of `weight`; `hessian` is not looked at."""
        shape = tuple(weight.shape)
        matrix = weight.detach().float().reshape(rows_and_columns(shape))
        if matrix.numel() <= self.keep or matrix.numel() == 0:
            return Stored(shape, (Plain(values=matrix.half().cpu()),))
        scale = (row_quantile(matrix.abs(), self.quantile) / 127).clamp_min(self.floor).half()
        codes = nearest_codes(matrix, scale, bits=8)
        return Stored(shape, (Grid(codes=codes.cpu(), scale=scale.cpu(), bits=8),))
