"""U-Net skips: the second half of the layers gets back, in reverse order, what the first half made.

    first half:   push x after each block
    second half:  x += weight[j] ⊙ pop()      before block j; weight: (rows, D), starts at 1
    gated:        x ← (1 − g) ⊙ weight[j] ⊙ pop() + g ⊙ x,   g = σ(gate[j]); gate: (rows, D), starts at 0

The first skip returns the block's own input, so the model starts with that residual doubled.
Rows are addressed by the place in the second half: when recurrence lengthens the order, they shift.
Gated, the model starts with half of each.
Source: the baseline; gates PRs #1089, #1218. Effect: starting at zero instead of one costs +0.0104 bpb (ternary study).
Cost: D parameters a skip, twice that gated; half of the layers' residuals are kept, one elementwise pass each.
Pitfalls: with `recurrence` a row comes to join other layers than before when the passes begin (its own page).
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from paramgolf.model.kernels.mixed_norm import Merge
from paramgolf.model.slots import Dims
from paramgolf.parts import Part, Role, constant
from paramgolf.registry import technique


@technique("unet_skips", fills="model.on_step", source="baseline; arXiv 1505.04597", effect="+0.0104 when started at 0")
@dataclass(frozen=True, kw_only=True)
class UNetSkips:
    """Skips from the first half of the order to the second."""

    start: float = 1.0
    """Initial weight of a skip."""
    gated: bool = False
    """Whether a learned share of skip and residual is taken instead of their sum."""

    def build(self, dims: Dims) -> nn.Module:
        """One row for each pair of the longest order."""
        return UNetSkipWeights(dims.places // 2, dims.dim, self.start, gated=self.gated)


class UNetSkipWeights(Part):
    """A weight per channel for each skip."""

    kernel_kind: ClassVar[str] = "skip"

    weight: nn.Parameter
    gate: nn.Parameter

    def __init__(self, rows: int, dim: int, start: float, *, gated: bool) -> None:
        super().__init__()
        self.gated = gated
        self.param("weight", rows, dim, role=Role.SCALE, init=constant(start))
        if gated:
            self.param("gate", rows, dim, role=Role.SCALE, init=nn.init.zeros_)

    def forward(self, x: Tensor, place: int, places: int, memory: list[Tensor]) -> Tensor:
        """(B, T, D) -> (B, T, D); `memory` holds the outputs of the first half."""
        comes = self.remember(x, place, places, memory)
        if comes is None:
            return x
        row, before = comes
        skip = self.weight[row].to(x.dtype) * before
        return torch.lerp(skip, x, torch.sigmoid(self.gate[row]).to(x.dtype)) if self.gated else x + skip

    def pending(self, x: Tensor, place: int, places: int, memory: list[Tensor]) -> Merge | list[Tensor] | None:
        """What `forward` would blend into `x`, or where `x` is to be left for later, or nothing."""
        if 0 < place < places // 2:
            return memory
        comes = self.remember(x, place, places, memory)
        if comes is None:
            return None
        row, before = comes
        share = torch.sigmoid(self.gate[row]) if self.gated else torch.ones_like(self.weight[row])
        rest = (1 - share) * self.weight[row] if self.gated else self.weight[row]
        return Merge(before, torch.stack((share, rest)))

    @staticmethod
    def remember(x: Tensor, place: int, places: int, memory: list[Tensor]) -> tuple[int, Tensor] | None:
        """Push `x` or pop what comes back here, with its row; None where nothing does."""
        first_half = places // 2
        if 0 < place <= first_half:
            memory.append(x)
        return None if place < first_half or not memory else (place - first_half, memory.pop())
