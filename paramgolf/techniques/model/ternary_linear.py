"""Ternary weights (BitNet b1.58): every block matrix multiplies as −s, 0 or +s, with one s for a group of columns.

    s = mean |w|,  q = clamp(round(w / s), ±1)      over `group` neighbouring inputs
    forward s·q,  gradient straight through to w

Source: arXiv 2402.17764; PR #640 (2026-03-24), groups of 128. Effect: 1.1570 bpb in ten minutes with 73.7 M
parameters at width 768. Cost: log2(3) ≈ 1.6 bits a weight and 2 bytes a group; one pass over the weights a step.
At export the quantizer `ternary`, with the same group, keeps s / mean |q|: read back, its mean magnitude is s again,
so the model that is scored computes what was trained.
Pitfalls: incompatible with weight averages (+0.13), weight decay and test-time training; needs its own
rates. Another group at export than in training changes the function. #640 also normalizes the input of projections
that write the residual; here that is left to the techniques before them.
"""

from dataclasses import dataclass

from torch import Tensor

from paramgolf.lowbit import LowBit, over_columns, refuse_group, straight_through, ternary_codes
from paramgolf.parts import Init, Linear, Role
from paramgolf.registry import technique


@technique("ternary_linear", fills="model.linear", source="arXiv 2402.17764; PR #640", effect="1.1570 in ten minutes")
@dataclass(frozen=True, kw_only=True)
class TernaryLinear:
    """Projections of three values a group."""

    group: int = 128
    """Inputs that share a scale; a power of two."""

    def __post_init__(self) -> None:
        refuse_group(self.group)

    @property
    def low_bit(self) -> LowBit:
        """The form of the weights it trains."""
        return LowBit("ternary", self.group)

    def __call__(self, fan_in: int, fan_out: int, *, role: Role, init: Init) -> Linear:
        """A projection that multiplies by the ternary form of its weight."""
        return TernaryProjection(fan_in, fan_out, role=role, init=init, group=self.group)


class TernaryProjection(Linear):
    """A projection through its weight's ternary form."""

    def __init__(self, fan_in: int, fan_out: int, *, role: Role, init: Init, group: int) -> None:
        super().__init__(fan_in, fan_out, role=role, init=init)
        self.group = group

    def used(self) -> Tensor:
        """(out, in) fp32: s·q, with the gradient of the weight."""
        codes, scale = ternary_codes(self.weight.detach(), self.group)
        return straight_through(self.weight, codes * over_columns(scale, self.group, codes.shape[1]))
