"""Tanh softcap: logits pass through a smooth bound.

    z = cap · tanh(z / cap)

Keeps single logits from running away early in training. Computed in fp32.
Source: the baseline (cap 30); Gemma 2, arXiv 2408.00118. Effect: not measured alone.
Cost: one elementwise pass, fused into the loss.
Pitfalls: the record kernel's 2·cap·σ(2z/cap) is the same but for the constant cap, which the loss does not see and
logits reworked at scoring do.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from paramgolf.bounds import require_positive
from paramgolf.registry import technique


@technique("tanh_softcap", fills="model.softcap", source="baseline; arXiv 2408.00118", effect="not measured alone")
@dataclass(frozen=True, kw_only=True)
class TanhSoftcap:
    """A smooth bound on logits."""

    cap: float = 30.0
    """Largest absolute logit."""

    def __post_init__(self) -> None:
        require_positive(self, "cap")

    @property
    def tanh_cap(self) -> float:
        """The bound, for the kernel that knows this map."""
        return self.cap

    def __call__(self, logits: Tensor) -> Tensor:
        return self.cap * torch.tanh(logits / self.cap)
