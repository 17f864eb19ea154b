"""SDClip: the step of a row is a fixed share of its standard deviation.

    s_r = k σ_r / L,  codes within ±L          L = 2^(bits−1) − 1

With a Gaussian row a code has about 2.047 − log2(k/L) bits of entropy: k/L sets the size, the bit width only where the
tail is cut. int6 k = 12.85: 3.32 bits; 11.5: 3.48; 13: 3.30; int7 k = 14: 4.22; int8 k = 20: 4.71.
Source: PR #1394; by group since #1586: MLP 11.5, attention 13, embedding 14 in #1855.
Effect: bundled with #1394. Cost: none. Pitfalls: weight decay no longer changes the size. σ_r is taken about zero here,
so that a row of one value keeps its size.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from paramgolf.quant.scales import row_deviation
from paramgolf.registry import technique


@technique("sd_clip", fills="quant.*.clip", source="PR #1394")
@dataclass(frozen=True, kw_only=True)
class SDClip:
    """A clip at so many standard deviations of the row."""

    by_row: ClassVar[bool] = True

    sigmas: float = 12.85
    """Standard deviations to the last code."""

    def __post_init__(self) -> None:
        if self.sigmas <= 0:
            raise ValueError(f"a clip at {self.sigmas} standard deviations keeps nothing")

    def __call__(self, matrix: Tensor, importance: Tensor | None, limit: int) -> Tensor:
        """(1, rows) steps; `importance` is not looked at."""
        return (self.sigmas * row_deviation(matrix) / limit).unsqueeze(0)
