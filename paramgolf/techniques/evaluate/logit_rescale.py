"""Asymmetric rescaling of logits: one factor above zero, another below.

    z' = above · z for z > 0,   below · z else

Source: the asymmetric bounds of PRs #1923, #1945; evaluation catalogue E8. There two bounds of the softcap learn in the
global phase of test-time training: that is `model.softcap=asym_logit` under phased_ttt. This is its fixed form.
Effect: −0.0013 or +0.0047 bpb for the learned bounds, results disagree; none published for fixed factors.
Pitfall: as a temperature, the factors have to come from training text.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from paramgolf.evaluate.slots import LogitRework
from paramgolf.registry import technique


@technique("logit_rescale", fills="evaluate.on_logits", source="PRs #1923 #1945; E8", effect="-0.0013 or +0.0047")
@dataclass(frozen=True, kw_only=True)
class LogitRescale:
    """Two factors, by the sign of a logit."""

    above: float = 1.0
    """Factor of positive logits."""
    below: float = 1.0
    """Factor of negative logits."""

    def __post_init__(self) -> None:
        if self.above <= 0 or self.below <= 0:
            raise ValueError(f"above={self.above} or below={self.below} is not positive")

    def prepare(self, tokens: Tensor, device: torch.device) -> LogitRework:
        """Nothing of the stream matters."""
        above, below = self.above, self.below
        return lambda logits, positions: torch.where(logits > 0, above * logits, below * logits)
