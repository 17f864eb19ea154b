"""AsymLogit: the tanh softcap with two learned bounds, one above and one below.

    z = c₊ · tanh(l / c₊) for l > 0,   c₋ · tanh(l / c₋) else        c₊, c₋ start at 30

Source: PRs #1923, #1945, #2014, #2135, where test-time training alone moved the two numbers.
Effect: +0.0047 bpb on the plain stack of #1855, −0.0013 beside AWQ-lite (#1945): results disagree. Cost: 2 parameters.
Pitfall: here they learn in training too, as every parameter does.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from paramgolf.bounds import require_positive
from paramgolf.parts import Part, Role, constant
from paramgolf.registry import technique


@technique("asym_logit", fills="model.softcap", source="PRs #1923 #1945", effect="-0.0013 or +0.0047")
@dataclass(frozen=True, kw_only=True)
class AsymLogit:
    """A smooth bound on logits, learned on either side."""

    cap: float = 30.0
    """Both bounds at the start."""

    def __post_init__(self) -> None:
        require_positive(self, "cap")

    def __call__(self, logits: Tensor) -> Tensor:
        return self.cap * torch.tanh(logits / self.cap)

    def build(self) -> nn.Module:
        """The two bounds."""
        return AsymmetricCap(self.cap)


class AsymmetricCap(Part):
    """A bound above and one below."""

    above: nn.Parameter
    below: nn.Parameter

    def __init__(self, cap: float) -> None:
        super().__init__()
        self.param("above", 1, role=Role.SCALE, init=constant(cap))
        self.param("below", 1, role=Role.SCALE, init=constant(cap))

    def forward(self, logits: Tensor) -> Tensor:
        """(B, T, V) fp32 -> the same."""
        cap = torch.where(logits > 0, self.above, self.below)
        return cap * torch.tanh(logits / cap)
