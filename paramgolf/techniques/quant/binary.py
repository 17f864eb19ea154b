"""Binary codes: weights trained by `binary_linear` kept as signs, eight to a byte.

    ŵ = sign(w) · fp16(mean |w|)                over `group` neighbouring columns

Source: quantization catalogue Q10; arXiv 1603.05279. Measured: 1.1239 bpb with 106 M parameters after 50,000 steps.
Cost: 1 bit a weight and 16 a group; nothing is left for a general compressor. A group of 128 is 16 bits of scale
beside 128 of codes; `mantissa` keeps fewer.
Pitfalls: weights that were not trained for it lose six tenths of their norm. The group must be that of training.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from paramgolf.lowbit import LowBit, binary_codes, refuse_group
from paramgolf.quant.scales import MANTISSA, refuse_mantissa, stored_scale
from paramgolf.registry import technique
from paramgolf.stored import Signs, Stored, rows_and_columns


@technique("binary", fills="quant.*", source="arXiv 1603.05279; PR #640")
@dataclass(frozen=True, kw_only=True)
class Binary:
    """Signs with a scale for each group."""

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
        return LowBit("binary", self.group)

    def __call__(self, weight: Tensor, hessian: Tensor | None) -> Stored:
        """Signs and scales of `weight`; `hessian` is not looked at."""
        shape = tuple(weight.shape)
        matrix = weight.detach().float().reshape(rows_and_columns(shape))
        codes, scale = binary_codes(matrix, self.group)
        kept = stored_scale(scale, self.mantissa)
        return Stored(shape, (Signs(codes=codes.to("cpu", torch.int8), scale=kept.cpu(), group=self.group),))
