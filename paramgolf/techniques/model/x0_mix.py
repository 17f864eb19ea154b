"""x0 mixing (`resid_mix`): every block reads a blend of the residual and the first embedding.

    u = mix[0] ⊙ x + mix[1] ⊙ x0          mix: (2, D) a layer, starts at 1 and 0

Deep layers keep direct access to what the token was. In a looped model the same block's mix is applied
on every pass; a two-lane stream applies it to the attention lane only.
With `phase` shallow layers start near x0 and deep ones near the residual: mix = φ and 1 − φ,
φ = σ(3·(layer/(L−1) − 1/2)) (2026-03-19 OvertoneInit record, in a bundle only, later dropped).
Source: the baseline, from the NanoGPT speedrun. Effect: not measured alone.
Cost: 2·D parameters a layer, kept out of the matrix optimizer, and an elementwise pass that the norm takes in.
Pitfalls: x0 is kept to the last layer, one more tensor in memory; its gradient adds up over all layers.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from paramgolf.model.slots import Dims, Pass
from paramgolf.parts import Init, Part, Role
from paramgolf.registry import technique


@technique(
    "x0_mix",
    fills="model.on_read",
    source="baseline; KellerJordan/modded-nanogpt",
    effect="not measured alone",
    neutral=True,
)
@dataclass(frozen=True, kw_only=True)
class X0Mix:
    """Blend of residual and first embedding, per channel."""

    phase: bool = False
    """Start from x0 in shallow layers and from the residual in deep ones, not from the residual in all."""

    def build(self, dims: Dims, layer: int) -> nn.Module:
        """The mix of one layer."""
        return X0Mixer(dims.dim, phase_of(layer, dims.layers) if self.phase else 1.0)


def phase_of(layer: int, layers: int) -> float:
    """σ(3·(layer/(layers−1) − 1/2)): 0.18 for the first layer, 0.82 for the last."""
    return 1 / (1 + math.exp(-3 * (layer / max(layers - 1, 1) - 0.5)))


def blend_of(keep: float) -> Init:
    """Initializer of (2, D): row 0 `keep`, row 1 the rest."""

    def fill(tensor: Tensor) -> None:
        tensor[0], tensor[1] = keep, 1.0 - keep

    return fill


class X0Mixer(Part):
    """Two vectors, one for the residual and one for x0."""

    kernel_kind: ClassVar[str] = "mix"

    mix: nn.Parameter

    def __init__(self, dim: int, keep: float) -> None:
        super().__init__()
        self.param("mix", 2, dim, role=Role.SCALE, init=blend_of(keep))

    def forward(self, x: Tensor, now: Pass) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        keep, again = torch.unbind(self.mix.to(x.dtype))
        return keep * x + again * now.x0
