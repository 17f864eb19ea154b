"""LN scale: the norm's output shrinks with depth, and with it what deep blocks write.

    n = rms_norm(x) / sqrt(layer + 1)        layer from 0, for attention and feed-forward alike

Repeated passes of a layer keep the layer's own number.
Source: PR #315. Effect: with partial RoPE −0.0023 bpb (1.1271 to 1.1248); in every record since. Cost: none.
Pitfall: gates that read the norm's output see it shrunk too.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from paramgolf.model.slots import Dims
from paramgolf.registry import technique


@technique("ln_scale", fills="model.on_norm", source="PR #315", effect="-0.0023 (with partial RoPE)")
@dataclass(frozen=True, kw_only=True)
class LNScale:
    """Norm output divided by the root of the depth."""

    def build(self, dims: Dims, layer: int) -> nn.Module | None:
        """The factor of one layer; the first needs none."""
        return DepthShrink((layer + 1) ** -0.5) if layer else None


class DepthShrink(nn.Module):
    """A constant factor."""

    kernel_kind: ClassVar[str] = "factor"

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        return self.factor * x
