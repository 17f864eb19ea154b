"""EMA-Nesterov look-ahead (`ema_nesterov`): before each step, follow the way the weights have been going.

m = EMA of (p_{t+1} − p_t), decay 0.99. Before a forward pass p ← p + β·m; the gradient is taken there and the step goes
on from there. β is `amount`, or amount·lr/lr_max when it follows the schedule; active between `start` and `end` of
training. No m is stored: with e the EMA of p itself, m = (1 − decay)/decay·(p − e), so both moves are one pass each.
Source: arXiv 2605.25395; modded-nanogpt track 3 (training catalogue §10).
Effect: there 3,325 → 3,125 steps on plain Muon (amount 0.6), 2,930 → 2,890 on a strong stack (0.3, following the rate).
Nobody has measured it in the challenge.
Cost: one more copy of the weights, two passes a step while active, one before.
Pitfalls: the horizon counts steps; at the end of its interval the weights keep what they were moved by. A checkpoint
stands between two steps, before the move.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from paramgolf.optim.average import Shadow
from paramgolf.optim.schedule import Progress
from paramgolf.registry import technique


@technique("ema_nesterov", fills="optim.look_ahead", source="arXiv 2605.25395", effect="-6 % of steps on plain Muon")
@dataclass(frozen=True, kw_only=True)
class EMANesterov:
    """Gradients are taken ahead, along the mean of past steps."""

    amount: float = 0.6
    """Mean steps that the weights are moved ahead by."""
    follow_rate: bool = False
    """Scale the amount by the learning rates' schedule."""
    decay: float = 0.99
    """Of the mean of steps."""
    start: float = 0.12
    """Share of training after which the weights are moved, 0..1."""
    end: float = 0.70
    """Share of training after which they no longer are."""

    def __post_init__(self) -> None:
        if not 0.0 < self.decay < 1.0:
            raise ValueError(f"decay={self.decay} is not between 0 and 1")
        if not 0.0 <= self.start < self.end <= 1.0:
            raise ValueError(f"start={self.start} and end={self.end} are no interval within 0..1")

    def build(self, parameters: Mapping[str, Tensor]) -> "EMANesterovLooker":
        """The looker, with no steps behind it."""
        return EMANesterovLooker(self, parameters)


class EMANesterovLooker:
    """The look-ahead of one set of parameters."""

    def __init__(self, config: EMANesterov, parameters: Mapping[str, Tensor]) -> None:
        self.config = config
        self.shadow = Shadow(parameters)
        self.fresh = 1.0 - config.decay

    @torch.no_grad()
    def before(self, progress: Progress, scale: float) -> None:
        """See `Looker.before`."""
        config, shadow = self.config, self.shadow
        if config.start <= progress.fraction < config.end:
            amount = config.amount * (scale if config.follow_rate else 1.0) * self.fresh / config.decay
            torch._foreach_lerp_(list(shadow.parameters.values()), list(shadow.copies.values()), -amount)

    def after(self, progress: Progress) -> None:
        """See `Looker.after`."""
        if progress.fraction < self.config.end:
            self.shadow.take(self.fresh)

    def state(self) -> dict[str, Tensor]:
        """See `Looker.state`."""
        return self.shadow.state()
