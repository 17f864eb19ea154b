"""x0 mixing (`resid_mix`): every block reads a blend of the residual and the first embedding.

    u = mix[0] ⊙ x + mix[1] ⊙ x0          mix: (2, D) a layer, starts at 1 and 0

Deep layers keep direct access to what the token was. In a looped model the same block's mix is applied
on every pass; a two-lane stream applies it to the attention lane only.
Source: the baseline, from the NanoGPT speedrun. Cost: 2·D parameters a layer, kept out of the matrix optimizer.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from paramgolf.model.slots import Dims, Pass
from paramgolf.parts import Part, Role
from paramgolf.registry import technique


@technique("x0_mix", fills="model.on_read", source="baseline; KellerJordan/modded-nanogpt", neutral=True)
@dataclass(frozen=True, kw_only=True)
class X0Mix:
    """Blend of residual and first embedding, per channel."""

    def build(self, dims: Dims, layer: int) -> nn.Module:
        """The mix of one layer."""
        return X0Mixer(dims.dim)


def ones_and_zeros(tensor: Tensor) -> None:
    """Row 0 ones, row 1 zeros: the residual alone."""
    tensor.zero_()[0] = 1.0


class X0Mixer(Part):
    """Two vectors, one for the residual and one for x0."""

    mix: nn.Parameter

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.param("mix", 2, dim, role=Role.SCALE, init=ones_and_zeros)

    def forward(self, x: Tensor, now: Pass) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        keep, again = torch.unbind(self.mix.to(x.dtype))
        return keep * x + again * now.x0
