"""SmearGate, first form: every token borrows from its predecessor, channel by channel.

    x_t ← (1 − g) ⊙ x_t + g ⊙ x_{t−1},   g = σ(gate)        gate: (D)

The predecessor is zero where a row or a document starts; the records did not heed documents.
Two conventions ran. Most (PRs #162, #198, #414, #549): after the embedding's norm, gate 0, so g = 1/2:
`model.on_input`, start 0. The one of 2026-03-19: before the norm, own share σ(3): `model.on_embed`, start −3.
Source: PRs #65, #102, #135, #162. Effect: with bigram hash, 3× MLP and int6 about −0.02 bpb (a bundle).
Cost: D parameters, one elementwise pass.
Pitfalls: at the start half of every token is its predecessor, which the model first has to unlearn; dropped at 4,096
pieces (#1218), where `smear_v2` came later.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from paramgolf.model.shift import preceding
from paramgolf.model.slots import Dims, Pass
from paramgolf.parts import Part, Role, constant
from paramgolf.registry import technique


@technique("smear_v1", fills="model.on_[ei]*", source="PRs #65 #102 #135 #162", effect="-0.02 (bundle)")
@dataclass(frozen=True, kw_only=True)
class SmearV1:
    """A share of the predecessor's embedding, per channel."""

    start: float = 0.0
    """Initial logit of the predecessor's share."""

    def build(self, dims: Dims) -> nn.Module:
        """The gate."""
        return ChannelSmear(dims.dim, self.start)


class ChannelSmear(Part):
    """One share a channel."""

    gate: nn.Parameter

    def __init__(self, dim: int, start: float) -> None:
        super().__init__()
        self.param("gate", dim, role=Role.SCALE, init=constant(start))

    def forward(self, x: Tensor, now: Pass) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        return torch.lerp(x, preceding(x, now.batch), torch.sigmoid(self.gate).to(x.dtype))
