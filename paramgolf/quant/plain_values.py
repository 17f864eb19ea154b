"""Plain values: keep a weight as floating-point numbers, rounded to 16 bits or not at all.

Formula: ŵ = fp16(w), to nearest even, or w.
Source: quantization catalogue Q2 (tied embedding in fp16), Q8 (small tensors); control vectors stay fp32 (Q1).
Measured: the tied embedding in fp16 instead of int8 takes the baseline's tax from 0.0072 to 0.0005 bits per byte
and costs about 500 KB at a vocabulary of 1,024 (2026-03-18_FP16Embed_WD3600).
Cost: 2 or 4 bytes a weight, of which a general compressor saves little.
Pitfall: magnitudes from 65,520 up have no 16-bit form; `quantize` refuses them by name.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from paramgolf.registry import technique
from paramgolf.stored import Plain, Stored, rows_and_columns


@technique(
    "plain_values",
    fills="quant.*",
    source="2026-03-17_NaiveBaseline; 2026-03-18_FP16Embed_WD3600",
    effect="fp16 instead of int8 for the tied embedding: -0.0067",
)
@dataclass(frozen=True, kw_only=True)
class PlainValues:
    """Keep floating-point values; the trivial filler of every slot of quant."""

    needs_hessian: ClassVar[bool] = False

    bits: Literal[16, 32] = 16
    """Of each value."""

    def __post_init__(self) -> None:
        if self.bits not in (16, 32):
            raise ValueError(f"plain values have 16 or 32 bits, not {self.bits}")

    def __call__(self, weight: Tensor, hessian: Tensor | None) -> Stored:
        """The values of `weight`; `hessian` is not looked at."""
        dtype = torch.float16 if self.bits == 16 else torch.float32
        # A copy even where nothing is converted: what is stored must not follow later training.
        values = weight.detach().to("cpu", dtype, copy=True).reshape(rows_and_columns(tuple(weight.shape)))
        return Stored(tuple(weight.shape), (Plain(values=values),))
