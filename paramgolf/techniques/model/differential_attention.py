"""Differential attention: two softmax maps a pair of heads, one taken from the other.

Heads 2p and 2p+1 are a pair with maps A1 and A2, keys and values of their own groups.
    even_odd   y1 = A1 v,  y2 = A2 v'         [y1 − λ y2, y1 + λ y2]     one call, as dear as plain attention
    full       (A1 − λ A2) [v, v']            keys of a pair of groups for the maps, both their values for the
               output; one call over twice the heads
λ: (H/2) a layer, ½, constant unless `learns`.
Source: arXiv 2410.05258; ternary study; DGAttention folder (learned λ). Effect: even_odd +0.022 bpb (1.1873 to
1.2094); full 0.046 better a step, but as four calls 154 to 322 ms a step instead of 87.
Cost: H/2 factors a layer; even_odd an elementwise pass, full twice the attention.
Pitfall: with a constant λ and nothing between, the output projection can undo even_odd: it adds no function.
`full` gives heads outputs that belong to no single value, so `xsa` beside it is refused.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from paramgolf.model.attention import HowToAttend, attend
from paramgolf.model.slots import Dims, ModelView
from paramgolf.parts import Part, Role, constant
from paramgolf.registry import name_of, technique


@technique("differential_attention", fills="model.attention", source="arXiv 2410.05258", effect="+0.022 (even_odd)")
@dataclass(frozen=True, kw_only=True)
class DifferentialAttention:
    """The difference of two attention maps."""

    form: Literal["even_odd", "full"] = "even_odd"
    """Whether each map has its own value (`even_odd`), or both share the two of the pair."""
    amount: float = 0.5
    """λ, at the start if it learns."""
    learns: bool = False
    """Whether λ is learned, for each pair."""

    def check(self, model: ModelView) -> None:
        """Heads come in pairs, and no other part asks for a head's own value."""
        dims = model.dims
        if dims.heads % 2 or (self.form == "full" and dims.kv_heads % 2):
            raise ValueError(f"{dims.heads} heads and {dims.kv_heads} kv heads do not pair")
        if self.form == "full" and any(name_of(filler) == "xsa" for filler in model.fillers):
            raise ValueError("xsa needs heads with one value each; differential_attention full mixes two")

    def build(self, dims: Dims, layer: int) -> nn.Module:
        """The core of one layer."""
        pairs = EvenOddCore if self.form == "even_odd" else PairedValuesCore
        return pairs(dims.heads // 2, self.amount, learns=self.learns)


class DifferenceCore(Part):
    """λ for each pair of heads."""

    amount: nn.Parameter

    def __init__(self, pairs: int, amount: float, *, learns: bool) -> None:
        super().__init__()
        self.fixed = amount
        self.learns = learns
        if learns:
            self.param("amount", pairs, role=Role.SCALE, init=constant(amount))

    def taken(self, y: Tensor) -> Tensor:
        """λ · y for (B, T, H/2, E)."""
        return self.amount.to(y.dtype)[:, None] * y if self.learns else self.fixed * y


class EvenOddCore(DifferenceCore):
    """Difference and sum of the two heads of a pair."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor, how: HowToAttend) -> Tensor:
        """(B, T, H, E), (B, T, K, E) twice -> (B, T, H, E)."""
        first, second = attend(q, k, v, how).unflatten(2, (-1, 2)).unbind(3)
        other = self.taken(second)
        return torch.stack((first - other, first + other), dim=3).flatten(2, 3)


class PairedValuesCore(DifferenceCore):
    """The difference of two maps, applied to both values of the pair of groups."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor, how: HowToAttend) -> Tensor:
        """(B, T, H, E), (B, T, K, E) twice -> (B, T, H, E)."""
        (q1, q2), (k1, k2), (v1, v2) = (x.unflatten(2, (-1, 2)).unbind(3) for x in (q, k, v))
        y = attend(torch.cat((q1, q1, q2, q2), 2), torch.cat((k1, k1, k2, k2), 2), torch.cat((v1, v2, v1, v2), 2), how)
        first, second = y.unflatten(2, (2, 2, -1)).unbind(2)
        other = torch.stack((self.taken(second[:, :, 0]), self.taken(second[:, :, 1])), dim=2)
        return (first - other).transpose(2, 3).flatten(2, 3)
