"""Gated attention, dense: every head's output is weighed by a gate that reads the whole normalized input.

    y[h] ← y[h] · σ(W[h]·x)               W: (H, D), N(0, 0.005²), so about ½ at the start

x is the block's normalized (and depth-scaled) input. After XSA, before the output projection.
Source: arXiv 2505.06708 (head-wise G1); PR #1736. Effect: −0.0017 bpb before quantization (#1729 to #1736).
Cost: H·D parameters a layer (44 KB raw over 11 layers); `sparse_gate` does as well with 12 channels.
Pitfall: found redundant beside XSA outside the contest (KellerJordan/modded-nanogpt #317).
"""

from dataclasses import dataclass

from torch import nn

from paramgolf.bounds import require_not_negative
from paramgolf.model.head_gate import HeadGate
from paramgolf.model.slots import Dims
from paramgolf.parts import normal
from paramgolf.registry import technique


@technique("gated_attention", fills="model.on_heads", source="arXiv 2505.06708; PR #1736", effect="-0.0017")
@dataclass(frozen=True, kw_only=True)
class GatedAttention:
    """A gate a head that reads every channel."""

    std: float = 0.005
    """Standard deviation of its weights at the start."""

    def __post_init__(self) -> None:
        require_not_negative(self, "std")

    def build(self, dims: Dims, layer: int) -> nn.Module:
        """The gates of one layer."""
        return HeadGate(dims.heads, dims.dim, normal(self.std))
