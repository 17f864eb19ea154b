"""Hessian-aware SDClip: rows that meet strong inputs get a wider clip.

    s_r = k σ_r [1 + λ (ρ_r − 1)] / L,   ρ_r = Σ_j |W_rj| H_jj, divided by its mean over the rows

Source: PR #1412, λ = 0.175. Effect: none that others could measure; its authors found that the importances of rows
hardly repeat across seeds (correlation 0.12) while those of whole matrices do (0.997). Cost: none.
Pitfall: rows said to matter get the *coarser* step. A negative `weight` does the opposite.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from paramgolf.quant.scales import row_deviation
from paramgolf.registry import technique


@technique("hessian_sd_clip", fills="quant.*.clip", source="PR #1412", effect="none measured by others")
@dataclass(frozen=True, kw_only=True)
class HessianSDClip:
    """SDClip with a factor for each row."""

    by_row: ClassVar[bool] = True

    sigmas: float = 12.85
    """Standard deviations to the last code, on average."""
    weight: float = 0.175
    """λ: how much a row's importance changes its clip."""

    def __post_init__(self) -> None:
        if self.sigmas <= 0 or not -1 < self.weight <= 1:
            raise ValueError(f"sigmas={self.sigmas} must be positive, weight={self.weight} above -1 and at most 1")

    def __call__(self, matrix: Tensor, importance: Tensor | None, limit: int) -> Tensor:
        """(1, rows) steps; without `importance` those of SDClip."""
        steps = self.sigmas * row_deviation(matrix) / limit
        if importance is None or not matrix.numel():
            return steps.unsqueeze(0)
        rows = (matrix.abs() * importance).sum(1)
        mean = rows.mean()
        relative = rows / mean if mean > 0 else rows + 1
        # A negative λ may not turn a clip round: a tenth of it is the least that is left.
        return (steps * (1 + self.weight * (relative - 1)).clamp_min(0.1)).unsqueeze(0)
