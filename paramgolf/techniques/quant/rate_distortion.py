"""Rate-distortion quantization: codes chosen for the least of error and bits, steps by curvature, trellis on request.

    step_rj = base · row step · column step, both in eighths of an octave;  code chosen by error + slope · bits
    rows "curvature": ∝ 1/√g_r (H18); columns: ∝ 1/l_jj, l the Cholesky diagonal of the Hessian (H17);
    states > 1: two interleaved grids told apart by a trellis down the rows, best path by Viterbi (H22)

Errors are fed back through the Hessian as in GPTQ, the choice of codes inside. Alone it spends `bits` a weight; under
`equal_slope` the slope is one for the whole model and `bits` is not looked at.
Source: quantization catalogue H17 to H22; arXiv 2603.04956; Marcellin and Fischer 1990; ISO/IEC 15938-17.
Measured: on Gaussian weights, above the rate-distortion bound at equal error: plain rounding 0.26 bits, 4 states 0.114,
8 states 0.096, 64 states 0.063, 256 states 0.047 (benchmarks/trellis_gap.py).
Cost: about 20 ns a weight on one core, 70 with 8 states, 250 with 64; a byte for each row and column before the coder.
Pitfalls: without `choose_rate` columns of inputs that calibration hardly saw hold noise (docs/rate_distortion.md).
Without curvature (no `equal_slope`, no backward pass) rows "curvature" means one step for all. A coder gains 0.025 bits
a weight where it tells the grids of a trellis apart. Codes are bytes: a weight 127 steps out widens its row's step.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from paramgolf.quant.rate_distortion import Choices, PreparedMatrix, slope_of_bits
from paramgolf.registry import technique
from paramgolf.stored import Stored, rows_and_columns


@technique("rate_distortion", fills="quant.*", source="arXiv 2603.04956; ISO/IEC 15938-17")
@dataclass(frozen=True, kw_only=True)
class RateDistortion:
    """Stepped codes of least error and bits."""

    needs_hessian: ClassVar[bool] = True

    bits: float = 3.5
    """Expected for each weight, where no allocator sets the slope."""
    states: Literal[1, 4, 8, 16, 32, 64, 128, 256] = 1
    """Of the trellis; 1: a plain grid."""
    rows: Literal["none", "deviation", "curvature"] = "none"
    """What the steps of rows follow: nothing, the row's deviation, or the curvature of the loss in its output."""
    columns: bool = False
    """Whether the steps of columns follow the Cholesky factor of the Hessian."""
    choose_rate: bool = False
    """Whether bits count when a code is chosen."""
    feedback: bool = True
    """Whether errors are fed back."""
    recenter: bool = False
    """Whether base and points are refitted to what was rounded to them (H21)."""
    damping: float = 0.01
    """Added to the diagonal of the Hessian, as a share of its mean."""

    def __post_init__(self) -> None:
        if not 0.05 <= self.bits <= 7.5:
            raise ValueError(f"a code of a byte takes 0.05 to 7.5 bits, not {self.bits}")
        if self.damping < 0:
            raise ValueError(f"damping cannot be negative, as {self.damping} is")

    def __call__(self, weight: Tensor, hessian: Tensor | None) -> Stored:
        """Codes of `weight`, any shape; without `hessian` every column counts alike."""
        matrix = self.prepared(weight, hessian, None)
        return Stored(tuple(weight.shape), (matrix.at(slope_of_bits([matrix], self.bits)).term,))

    def prepared(self, weight: Tensor, hessian: Tensor | None, rows: Tensor | None) -> PreparedMatrix:
        """`weight` with its `hessian` and the curvature of its `rows`, ready to be coded at any slope."""
        choices = Choices(
            states=self.states,
            rows=self.rows,
            columns=self.columns,
            choose_rate=self.choose_rate,
            feedback=self.feedback,
            recenter=self.recenter,
            damping=self.damping,
        )
        matrix = weight.detach().float().cpu().reshape(rows_and_columns(tuple(weight.shape)))
        return PreparedMatrix(matrix, hessian, rows, choices)
