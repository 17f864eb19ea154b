"""Noise QAT: training adds to block matrices noise as large as the rounding that export will do.

    w ← w + (U − ½)·step,  step = max|w| / limit of each row,  U uniform on 0..1, anew for each forward pass

Source: PR #363. Effect: tax of int8 rows 0.37 → 0.002 bpb for a heavily looped model, whose shared layers repeat
their rounding error. Cost: one random number a weight and forward pass. Only passes that train have noise: none is
added where no gradient is kept (validation) or once training is done (scoring, test-time training).
Pitfalls: the step must be that of the export. Numbers come from the device's own generator, so on a GPU a resumed
run draws others than the uninterrupted one. #363 put it on the shared layers only; here it is on every block.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from paramgolf.parts import Init, Linear, Role
from paramgolf.registry import technique


@technique("noise_qat", fills="model.linear", source="PR #363", effect="int8 tax 0.37 to 0.002 (heavily looped)")
@dataclass(frozen=True, kw_only=True)
class NoiseQAT:
    """Projections with rounding noise."""

    bits: int = 8
    """Of the export's codes."""
    start: float = 0.0
    """Share of training from which there is noise."""

    def __post_init__(self) -> None:
        if not 2 <= self.bits <= 8:
            raise ValueError(f"rows are exported with 2 to 8 bits, not {self.bits}")
        if not 0 <= self.start < 1:
            raise ValueError(f"start={self.start} is no share of training below 1")

    @property
    def switches(self) -> tuple[float, ...]:
        """Where the compiled graph changes."""
        return (self.start,) if self.start else ()

    def __call__(self, fan_in: int, fan_out: int, *, role: Role, init: Init) -> Linear:
        """A projection with noise in training."""
        return NoisyProjection(fan_in, fan_out, role=role, init=init, config=self)


class NoisyProjection(Linear):
    """A projection whose weight is noisy while it trains."""

    def __init__(self, fan_in: int, fan_out: int, *, role: Role, init: Init, config: NoiseQAT) -> None:
        super().__init__(fan_in, fan_out, role=role, init=init)
        self.config = config
        self.noisy = config.start <= 0

    def at(self, progress: float) -> None:
        """Switch by progress; off again at the end."""
        self.noisy = self.config.start <= progress < 1

    def used(self) -> Tensor:
        """(out, in) fp32: the weight, with noise if this pass trains."""
        if not self.noisy or not torch.is_grad_enabled():
            return self.weight
        weight = self.weight.detach()
        step = weight.abs().amax(1, keepdim=True) / (2 ** (self.config.bits - 1) - 1)
        return self.weight + (torch.rand_like(weight) - 0.5) * step
