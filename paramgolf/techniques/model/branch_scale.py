"""Branch scales (`attn_scale`, `mlp_scale`): a learned gain per channel on what each half writes.

    x += scale ⊙ branch(x)                scale: (D) for attention and (D) for the feed-forward, starts at 1

They let a layer fade in or out and absorb gates that start at one half.
Source: the baseline; in every record. Effect: not measured alone. Cost: 2·D parameters a layer, folded into
the matrices where `model.fused` has `scales`.
Pitfalls: a scale and the rows of the projection before it do the same, and share what Muon and Adam do to each.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from paramgolf.model.slots import Dims, Half
from paramgolf.parts import Part, Role, constant
from paramgolf.registry import technique


@technique("branch_scale", fills="model.on_branch", source="baseline", effect="not measured alone", neutral=True)
@dataclass(frozen=True, kw_only=True)
class BranchScale:
    """A gain per channel on each half's output."""

    start: float = 1.0
    """Initial gain."""

    def build(self, dims: Dims, layer: int, half: Half) -> nn.Module:
        """The gain of one half of one layer."""
        return BranchGain(dims.dim, self.start)


class BranchGain(Part):
    """A vector that multiplies."""

    kernel_kind: ClassVar[str] = "scale"

    scale: nn.Parameter

    def __init__(self, dim: int, start: float) -> None:
        super().__init__()
        self.param("scale", dim, role=Role.SCALE, init=constant(start))

    def forward(self, y: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        return self.scale.to(y.dtype) * y
