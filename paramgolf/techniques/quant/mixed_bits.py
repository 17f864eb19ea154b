"""Mixed bits: the matrices whose inputs are strongest keep their bits, the others get fewer.

    rank by trace(H), H = Σ x xᵀ;  the first `keep` as their quantizer says, the rest with `bits` and the same clip

Source: PRs #1105, #1204, #1285 (`N_INT6_LAYERS`): int6 for the first, int5 for the rest.
Effect: fits more parameters; with weight decay 0.090 everything fits at int6, and that was best (2026-04-03).
Cost: none. Pitfall: with an SDClip fewer bits at the same clip make the step coarser by (2^(b−1) − 1) / (2^(c−1) − 1).
Weights that run several times are to keep their bits: their Hessians sum over the passes, which ranks them high.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from paramgolf.parts import Role
from paramgolf.quant.slots import ArtifactSize, QuantItem
from paramgolf.registry import technique
from paramgolf.stored import Stored
from paramgolf.techniques.quant.gptq import GPTQ
from paramgolf.techniques.quant.row_grid import RowGridCodes


@technique("mixed_bits", fills="quant.allocate", source="PRs #1105 #1204 #1285")
@dataclass(frozen=True, kw_only=True)
class MixedBits:
    """Fewer bits where inputs are weak."""

    needs_hessian: ClassVar[bool] = True
    needs_curvature: ClassVar[bool] = False

    keep: int = 60
    """Block matrices that keep their bits."""
    bits: int = 5
    """Of the others."""

    def __post_init__(self) -> None:
        if self.keep < 0 or not 2 <= self.bits <= 8:
            raise ValueError(f"keep={self.keep} is a count, bits={self.bits} lies within 2 and 8")

    def __call__(self, items: Sequence[QuantItem], budget_bytes: int | None, size: ArtifactSize) -> dict[str, Stored]:
        """Every item under its quantizer or one of fewer bits; budget and size are not looked at."""
        traces = {
            item.name: float(item.hessian.diagonal().sum())
            for item in items
            if item.hessian is not None and item.role in (Role.ATTENTION, Role.MLP)
        }
        weak = set(sorted(traces, key=lambda name: -traces[name])[self.keep :])
        return {item.name: self.fewer(item).alone() if item.name in weak else item.alone() for item in items}

    def fewer(self, item: QuantItem) -> QuantItem:
        """`item` with fewer bits, where its quantizer has more."""
        quantizer = item.quantizer
        if isinstance(quantizer, GPTQ | RowGridCodes) and quantizer.bits > self.bits:
            return item._replace(quantizer=replace(quantizer, bits=self.bits))
        return item
