"""Asymmetric softcap: logits pass through a shifted sigmoid, with more room above than below.

    z = height · σ((l + shift) / width)

A constant added to all logits changes no probability, so only the shape counts: at height 2c, shift 0 and width c/2
it is the tanh softcap of c.
Source: KellerJordan/modded-nanogpt (23, 5, 7.5). Effect: −2.4 % of time there; untried in training in the contest.
Cost: as the tanh softcap.
Pitfalls: the fused loss (`model.fused`, `loss`) knows the tanh form only.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from paramgolf.bounds import require_positive
from paramgolf.registry import technique


@technique("sigmoid_softcap", fills="model.softcap", source="KellerJordan/modded-nanogpt", effect="-2.4 % of time")
@dataclass(frozen=True, kw_only=True)
class SigmoidSoftcap:
    """A lopsided bound on logits."""

    height: float = 23.0
    """Distance between the largest and the smallest logit."""
    shift: float = 5.0
    """What is added before scaling; at −shift the slope is steepest."""
    width: float = 7.5
    """Scale of the logits."""

    def __post_init__(self) -> None:
        require_positive(self, "width")

    def __call__(self, logits: Tensor) -> Tensor:
        return self.height * torch.sigmoid((logits + self.shift) / self.width)
