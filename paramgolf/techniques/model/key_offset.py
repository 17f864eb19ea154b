"""Partial key offset: the channels of a key that carry no position come from the token before.

    k_t[first:] ← k_{t−1}[first:]           as they are where a row or a document starts

A query that matches a key then finds the token after it: induction in one layer, without parameters.
Source: KellerJordan/modded-nanogpt #169. Effect: −50 of about 2,000 steps there; untried in the contest.
Cost: one pass over the keys. Combine with partial `rope`: give `first` the number of channels that rotate.
Pitfall: unmasked, the first key of a packed document would carry the last token of the one before.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from paramgolf.model.shift import preceding
from paramgolf.model.slots import Dims, ModelView, Pass
from paramgolf.registry import technique


@technique("key_offset", fills="model.on_qk", source="KellerJordan/modded-nanogpt #169", effect="-2.5 % of steps")
@dataclass(frozen=True, kw_only=True)
class KeyOffset:
    """Late channels of keys, one token late."""

    first: int = 0
    """First channel that is moved; 0: the second half of the head."""

    def check(self, model: ModelView) -> None:
        """Some channel is moved."""
        if not 0 <= self.first < model.dims.head_dim:
            raise ValueError(f"first={self.first} leaves nothing of a head of {model.dims.head_dim} channels")

    def build(self, dims: Dims, layer: int) -> nn.Module:
        """The shift of one layer."""
        return KeyShift(self.first or dims.head_dim // 2)


class KeyShift(nn.Module):
    """Moves channels from `first` on by one token."""

    def __init__(self, first: int) -> None:
        super().__init__()
        self.first = first

    def forward(self, q: Tensor, k: Tensor, now: Pass) -> tuple[Tensor, Tensor]:
        """(B, T, H, E), (B, T, K, E) -> the same."""
        late = k[..., self.first :]
        return q, torch.cat((k[..., : self.first], preceding(late, now.batch, late)), dim=-1)
