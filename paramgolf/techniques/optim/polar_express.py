"""Polar Express (`polar_express`): another quintic in each Newton–Schulz iteration, each the best after the last.

The i-th iteration maps the singular values by a_i·s + b_i·s³ + c_i·s⁵, the coefficients being minimax-optimal for the
interval that the iterations before leave; beyond the fifth the last one is repeated. Five iterations bring
singular values of 0.01 to 1 to within 0.86 to 1.14, the classic quintic to within 0.68 to 1.13.
Source: arXiv 2505.16932; PR #1344, in the records from #1787 on; training catalogue §3.2.
Effect: part of #1787's −0.0014 before quantization; alone on SP8192 +0.0004 (#1516): treat it as neutral.
Cost: none.
Pitfalls: the records divide by the Frobenius norm exactly, which this does too; modded-nanogpt divides by 1.02 times
it, a margin for the rounding of bf16.
"""

from dataclasses import dataclass

from paramgolf.optim.orthogonalize import Quintic
from paramgolf.registry import technique

POLAR_EXPRESS: tuple[Quintic, ...] = (
    (8.156554524902461, -22.48329292557795, 15.878769915207462),
    (4.042929935166739, -2.808917465908714, 0.5000178451051316),
    (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
    (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
    (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
)


@technique("polar_express", fills="optim.matrix.quintics", source="arXiv 2505.16932; PR #1344", effect="neutral")
@dataclass(frozen=True, kw_only=True)
class PolarExpress:
    """The optimal quintic for each iteration."""

    def __call__(self, steps: int) -> tuple[Quintic, ...]:
        """The first `steps` of the five, the fifth again where there are more."""
        return tuple(POLAR_EXPRESS[min(step, len(POLAR_EXPRESS) - 1)] for step in range(steps))
