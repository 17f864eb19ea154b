"""Row grid: every weight rounded to the nearest code of its row, the step of a row set by a clip rule.

    q = clamp(round(w / s_r), ±L),  ŵ = q · s_r          L = 2^(bits−1) − 1, s_r as fp16

With `absmax_clip` the first int6 exports, with `quantile_search` GPTQ-lite (#414), with `sd_clip` the half of #1394
that needs no data. Mixed precision (int5 feed-forward, int6 attention, int8 embedding) is a row grid of its own bits
in each group of roles.
Source: quantization catalogue Q3, Q4; 2026-03-19 and -20 records.
Measured: int5 everywhere costs +0.014 against int6 at width 512 (#1001); int5 only in the feed-forward saves 1.86 MB,
spent on a tenth layer worth −0.003 (2026-03-20). Cost: under a second for 36 M weights.
Pitfall: the size after coding goes by the step over the deviation, not by the bits.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from paramgolf.quant.rounding import nearest_codes
from paramgolf.quant.scales import MANTISSA, best_grid, refuse_mantissa, stored_scale
from paramgolf.quant.slots import ClipRule
from paramgolf.registry import technique
from paramgolf.stored import Grid, Stored, rows_and_columns
from paramgolf.techniques.quant.absmax_clip import AbsmaxClip


@technique("row_grid", fills="quant.*", source="2026-03-19 records; PRs #374 #414")
@dataclass(frozen=True, kw_only=True)
class RowGridCodes:
    """Nearest codes on one grid a row."""

    needs_hessian: ClassVar[bool] = False

    bits: int = 6
    """Of a code."""
    clip: ClipRule = AbsmaxClip()
    """Sets the step of each row."""
    mantissa: int = MANTISSA
    """Bits behind the leading one that a step keeps; fewer make the steps themselves cheaper."""

    def __post_init__(self) -> None:
        refuse_grid(self.bits, self.mantissa)

    def __call__(self, weight: Tensor, hessian: Tensor | None) -> Stored:
        """Codes and steps of `weight`; of `hessian`, where given, a clip rule may use the diagonal."""
        shape = tuple(weight.shape)
        matrix = weight.detach().float().reshape(rows_and_columns(shape))
        importance = hessian.diagonal() if hessian is not None else None
        scales = stored_scale(self.clip(matrix, importance, 2 ** (self.bits - 1) - 1), self.mantissa)
        tried = [nearest_codes(matrix, scale, bits=self.bits).float() for scale in scales]
        codes, scale = best_grid(matrix, scales, tried, by_row=self.clip.by_row)
        return Stored(shape, (Grid(codes=codes.to("cpu", torch.int8), scale=scale.cpu(), bits=self.bits),))


def refuse_grid(bits: int, mantissa: int) -> None:
    """Raise `ValueError` unless codes have 2 to 8 bits and steps a mantissa of at most ten."""
    if not 2 <= bits <= 8:
        raise ValueError(f"codes have 2 to 8 bits, not {bits}")
    refuse_mantissa(mantissa)
