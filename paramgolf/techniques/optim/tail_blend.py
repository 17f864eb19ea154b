"""Tail blend (`tail_blend`): an average of the last part of training, mixed with the weights it ends at.

From `start` of training on, all but the token embedding: ema ← ema + (w − ema)/horizon, beginning at w; evaluation and
export see (1 − share)·w + share·ema of those, and the token embedding itself.
Source: K. Jordan and others, modded-nanogpt, record #325 ("Tail-EMA"); training catalogue §3.6.
Effect: −42 of 2,741 steps there; in the challenge nobody has measured it. A full average lags behind.
Cost: one more copy of the weights; a pass over both a step from `start` on.
Pitfalls: made for a learning rate that comes down; with a floor of 0.1 the whole EMA gains more than this blend can.
`horizon` counts steps of runs about that long: scale it with the steps.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from torch import Tensor

from paramgolf.optim.average import Shadow
from paramgolf.optim.schedule import Progress
from paramgolf.parts import Role
from paramgolf.registry import technique


@technique("tail_blend", fills="optim.average", source="modded-nanogpt #325", effect="-42 of 2741 steps there")
@dataclass(frozen=True, kw_only=True)
class TailBlend:
    """The last weights mixed with their average over the tail of training."""

    start: float = 0.83
    """Share of training after which the average begins, 0..1."""
    horizon: float = 150.0
    """Steps over which it forgets."""
    share: float = 0.6
    """Of the average in what is evaluated, 0..1; the rest is the last weights."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.start < 1.0:
            raise ValueError(f"start={self.start} is not within 0..1")
        if self.horizon < 1.0:
            raise ValueError(f"horizon={self.horizon} is not at least 1")
        if not 0.0 <= self.share <= 1.0:
            raise ValueError(f"share={self.share} is not within 0..1")

    def build(self, parameters: Mapping[str, Tensor], roles: Mapping[str, Role]) -> "TailAverager":
        """The average of all but the token embedding."""
        return TailAverager(self, {name: p for name, p in parameters.items() if roles[name] is not Role.EMBED})


class TailAverager:
    """The blend of one set of parameters."""

    def __init__(self, config: TailBlend, parameters: Mapping[str, Tensor]) -> None:
        self.config = config
        self.shadow = Shadow(parameters)

    def update(self, progress: Progress, scale: float) -> None:
        """See `Averager.update`."""
        if progress.fraction >= self.config.start:
            self.shadow.take(1.0 / self.config.horizon if self.shadow.count else 1.0)

    def apply(self) -> AbstractContextManager[None]:
        """See `Averager.apply`."""
        shadow = self.shadow
        if not shadow.count:
            return nullcontext()
        blend = {name: p.detach().lerp(shadow.copies[name], self.config.share) for name, p in shadow.parameters.items()}
        return shadow.shown(blend)

    def state(self) -> dict[str, Tensor]:
        """See `Averager.state`."""
        return self.shadow.state()
