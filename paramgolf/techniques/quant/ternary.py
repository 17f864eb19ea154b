"""Ternary codes: weights trained by `ternary_linear` kept as base-3 digits, five to a byte.

    s = mean |w|,  q = clamp(round(w / s), ±1),  ŵ = q · fp16(s / mean |q|)      over `group` neighbouring columns

The scale makes up for the zeros (shrinkage): ŵ has the mean magnitude s that w had, so that rounding ŵ once more, as
the model's forward pass does, gives q and s back.
Source: quantization catalogue Q10; PR #640, arXiv 2402.17764. Measured: 1.1570 bpb with 73.7 M parameters.
Cost: 1.6 bits a weight and 16 a group; nothing is left for a general compressor. A group of 128 is 16 bits of scale
beside 205 of codes; `mantissa` keeps fewer.
Pitfalls: weights that were not trained for it lose half of their norm. The group must be that of training.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from paramgolf.lowbit import LowBit, group_means, refuse_group, ternary_codes
from paramgolf.quant.scales import MANTISSA, refuse_mantissa, stored_scale
from paramgolf.registry import technique
from paramgolf.stored import Stored, Trits, rows_and_columns


@technique("ternary", fills="quant.*", source="PR #640; arXiv 2402.17764")
@dataclass(frozen=True, kw_only=True)
class Ternary:
    """Codes of −1, 0, 1 with a scale for each group."""

    needs_hessian: ClassVar[bool] = False

    group: int = 128
    """Columns that share a scale; a power of two."""
    mantissa: int = MANTISSA
    """Bits behind the leading one that a scale keeps; fewer make the scales cheaper and all codes of a group wrong."""

    def __post_init__(self) -> None:
        refuse_group(self.group)
        refuse_mantissa(self.mantissa)

    @property
    def low_bit(self) -> LowBit:
        """The form of the weights it keeps."""
        return LowBit("ternary", self.group)

    def __call__(self, weight: Tensor, hessian: Tensor | None) -> Stored:
        """Codes and scales of `weight`; `hessian` is not looked at."""
        shape = tuple(weight.shape)
        matrix = weight.detach().float().reshape(rows_and_columns(shape))
        codes, scale = ternary_codes(matrix, self.group)
        filled = group_means(codes.abs(), self.group)
        kept = stored_scale(torch.where(filled > 0, scale / filled, 0), self.mantissa)
        return Stored(shape, (Trits(codes=codes.to("cpu", torch.int8), scale=kept.cpu(), group=self.group),))
