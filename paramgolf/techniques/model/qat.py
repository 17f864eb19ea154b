"""Quantization-aware training: from some share of training on, block matrices multiply as export would round them.

    step = max|w| / limit, or sigmas·std(w) / limit      of each row, as fp16; limit = 2^(bits−1) − 1
    forward step·clamp(round(w / step), ±limit),  gradient straight through to w

Source: 2026-03-19 records (int6 from the start); late form PRs #315, #414, #549. Effect: tax of int6 rows 0.048 →
0.0015 bpb with exports by largest magnitude (2026-03-19); late, −0.0001 (#414); with GPTQ unnecessary (#1218).
Cost: one pass over the weights a step. Pitfalls: in #315 and #549 the switch never acted: the compiler had folded a
flag of the class as a constant. Here it is a flag of each projection, which the compiled graph is guarded by; its
change compiles one more graph. Rounding must be that of the export. One study with test-time training diverged.
"""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from paramgolf.lowbit import straight_through
from paramgolf.parts import Init, Linear, Role
from paramgolf.registry import technique


@technique("qat", fills="model.linear", source="PRs #315 #414 #549; 2026-03-19", effect="int6 tax 0.048 to 0.0015")
@dataclass(frozen=True, kw_only=True)
class QAT:
    """Rounded projections with a straight-through gradient."""

    bits: Literal[5, 6, 7, 8] = 6
    """Of a code."""
    start: float = 0.0
    """Share of training from which weights are rounded."""
    sigmas: float = 0.0
    """Clip each row at so many standard deviations; 0: at its largest magnitude."""

    def __post_init__(self) -> None:
        if self.bits not in (5, 6, 7, 8):
            raise ValueError(f"weights are trained for 5 to 8 bits, not {self.bits}")
        if not 0 <= self.start <= 1 or self.sigmas < 0:
            raise ValueError(f"start={self.start} is no share of training, or sigmas={self.sigmas} is negative")

    @property
    def switches(self) -> tuple[float, ...]:
        """Where the compiled graph changes."""
        return (self.start,) if self.start else ()

    def __call__(self, fan_in: int, fan_out: int, *, role: Role, init: Init) -> Linear:
        """A projection that will be rounded."""
        return RoundedProjection(fan_in, fan_out, role=role, init=init, config=self)


class RoundedProjection(Linear):
    """A projection through its weight's rounded form, once that is switched on."""

    def __init__(self, fan_in: int, fan_out: int, *, role: Role, init: Init, config: QAT) -> None:
        super().__init__(fan_in, fan_out, role=role, init=init)
        self.config = config
        self.rounding = config.start <= 0

    def at(self, progress: float) -> None:
        """Switch by progress."""
        self.rounding = progress >= self.config.start

    def used(self) -> Tensor:
        """(out, in) fp32: the rounded weight, with the gradient of the weight."""
        if not self.rounding:
            return self.weight
        return straight_through(self.weight, rounded_rows(self.weight.detach(), self.config.bits, self.config.sigmas))


def rounded_rows(weight: Tensor, bits: int, sigmas: float) -> Tensor:
    """(rows, columns) on a grid of 2^bits − 1 levels a row, its step rounded to fp16 as a stored one is."""
    limit = 2 ** (bits - 1) - 1
    bound = weight.abs().amax(1, keepdim=True) if sigmas == 0 else sigmas * weight.std(1, keepdim=True)
    step = (bound / limit).half().float()
    # A step that underflows keeps nothing of its row; the divisor only avoids 0 / 0.
    return (weight / step.clamp_min(1e-12)).round().clamp(-limit, limit) * step
