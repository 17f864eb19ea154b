"""Absmax clip: the grid of a row ends at its largest weight.

    s_r = max |w_r| / L          L = 2^(bits−1) − 1

Source: quantization catalogue Q4; the first int6 exports of March 2026.
Effect: tax of int6 everywhere 0.048 without rounded training (2026-03-19). Cost: none.
Pitfall: one outlier makes the step of its whole row coarse; SDClip ties the step to the deviation instead.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from paramgolf.registry import technique


@technique("absmax_clip", fills="quant.*.clip", source="2026-03-19 records; catalogue Q4")
@dataclass(frozen=True, kw_only=True)
class AbsmaxClip:
    """The largest weight of a row gets the largest code."""

    by_row: ClassVar[bool] = True

    def __call__(self, matrix: Tensor, importance: Tensor | None, limit: int) -> Tensor:
        """(1, rows) steps; `importance` is not looked at."""
        largest = matrix.abs().amax(1) if matrix.shape[1] else matrix.new_zeros(matrix.shape[0])
        return (largest / limit).unsqueeze(0)
