"""GPTQ: codes that make up for one another, measured on the inputs that the matrix really gets.

    min over q of tr (W − Ŵ) H (W − Ŵ)ᵀ,  H = Σ x xᵀ,   ŵ = q · s_r;   one column after another, the strongest input
    first, each loss passed on to the columns to come (`quant/gptq.py` has the recursion)

Steps come from the original rows by the clip rule, rounded to fp16 before use. A clip rule with several alternatives
has the whole feedback repeated for each and the one of least plain squared error kept, as in #1019.
Source: arXiv 2210.17323; PRs #535, #634, #1019, #1060, #1394; of the embedding #1394; reverse Cholesky #1948.
Effect: never isolated: #1019 beats #549 by 0.0047 with a larger table and without test-time training.
Cost: about 0.7 s of one core for 512 × 2,048 and 0.05 s for 2,048 × 512, most of it the factor of H.
Pitfalls: damping by 0.01 of the mean diagonal is flat around its best; the size of blocks changes only the time (64
"ten times worse" was a bug). Inputs that never came in calibration lose their weights. For the tied embedding H is
that of the head: its use as an input and the frequencies of its rows are not seen.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from paramgolf.quant.gptq import gptq_codes
from paramgolf.quant.rounding import nearest_codes
from paramgolf.quant.scales import MANTISSA, RowGrid, best_grid, stored_scale
from paramgolf.quant.slots import ClipRule
from paramgolf.registry import technique
from paramgolf.stored import Grid, Stored, rows_and_columns
from paramgolf.techniques.quant.absmax_clip import AbsmaxClip
from paramgolf.techniques.quant.row_grid import refuse_grid


@technique("gptq", fills="quant.*", source="arXiv 2210.17323; PRs #535 #1019 #1394")
@dataclass(frozen=True, kw_only=True)
class GPTQ:
    """Integer codes with error feedback through the Hessian."""

    needs_hessian: ClassVar[bool] = True

    bits: int = 6
    """Of a code."""
    clip: ClipRule = AbsmaxClip()
    """Sets the step of each row."""
    damping: float = 0.01
    """Added to the diagonal of the Hessian, as a share of its mean."""
    act_order: bool = True
    """Round the columns of the strongest inputs first."""
    block: int = 128
    """Columns whose losses are passed on together: a matter of time only."""
    mantissa: int = MANTISSA
    """Bits behind the leading one that a step keeps; fewer make the steps themselves cheaper."""

    def __post_init__(self) -> None:
        refuse_grid(self.bits, self.mantissa)
        if self.damping < 0 or self.block < 1:
            raise ValueError(f"damping={self.damping} must not be negative, block={self.block} must be positive")

    @property
    def limit(self) -> int:
        """The largest code."""
        return 2 ** (self.bits - 1) - 1

    def __call__(self, weight: Tensor, hessian: Tensor | None) -> Stored:
        """Codes and steps of `weight`; without `hessian`, as for a vector, the nearest ones."""
        shape = tuple(weight.shape)
        matrix = weight.detach().float().cpu().reshape(rows_and_columns(shape))
        square = None if hessian is None else hessian.cpu()
        codes, scale = self.grid(matrix, square)
        return Stored(shape, (Grid(codes=codes.to(torch.int8), scale=scale, bits=self.bits),))

    def grid(self, matrix: Tensor, hessian: Tensor | None) -> RowGrid:
        """The best codes of (rows, columns) `matrix`, on the CPU as its `hessian`."""
        importance = None if hessian is None else hessian.diagonal()
        scales = stored_scale(self.clip(matrix, importance, self.limit), self.mantissa)
        if hessian is None:
            tried: Sequence[Tensor] = [nearest_codes(matrix, scale, bits=self.bits).float() for scale in scales]
        else:
            # Rows do not meet in error feedback: all alternatives go through it at once.
            many = self.codes(matrix.repeat(len(scales), 1), hessian, scales.flatten())
            tried = many.split(matrix.shape[0]) if matrix.shape[0] else [many] * len(scales)
        return best_grid(matrix, scales, tried, by_row=self.clip.by_row)

    def codes(self, matrix: Tensor, hessian: Tensor, scale: Tensor) -> Tensor:
        """Codes with error feedback for steps (rows,) or (rows, columns)."""
        return gptq_codes(
            matrix,
            hessian,
            scale,
            limit=self.limit,
            damping=self.damping,
            act_order=self.act_order,
            block=self.block,
        )
