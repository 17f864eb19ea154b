"""Gated attention, the early form: a dense gate with a bias that starts it nearly open.

    y[h] ← y[h] · σ(W[h]·x + b[h])         W: (H, D), starts at 0; b: (H), starts at 4, so 0.98

Source: an option of PR #549's script, on in no record. Effect: ±0. Cost: H·(D + 1) parameters a layer (4,104).
Pitfall: σ is flat at 4, so the gate learns slowly.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from paramgolf.model.slots import Dims, Tap
from paramgolf.parts import Part, Role, constant
from paramgolf.registry import technique


@technique("biased_gate", fills="model.on_heads", source="PR #549 (off)", effect="none")
@dataclass(frozen=True, kw_only=True)
class BiasedGate:
    """A dense gate a head with a bias."""

    bias: float = 4.0
    """Initial bias."""

    def build(self, dims: Dims, layer: int) -> nn.Module:
        """The gates of one layer."""
        return BiasedHeadGate(dims.heads, dims.dim, self.bias)


class BiasedHeadGate(Part):
    """Weights and a bias for each head."""

    weight: nn.Parameter
    bias: nn.Parameter

    def __init__(self, heads: int, dim: int, bias: float) -> None:
        super().__init__()
        self.param("weight", heads, dim, role=Role.GATE, init=nn.init.zeros_)
        self.param("bias", heads, role=Role.SCALE, init=constant(bias))

    def forward(self, y: Tensor, tap: Tap) -> Tensor:
        """(B, T, H, E) -> (B, T, H, E)."""
        logits = F.linear(tap.x_BTD, self.weight.to(y.dtype), self.bias.to(y.dtype))
        return y * torch.sigmoid(logits).unsqueeze(-1)
