"""Stochastic weight averaging (`swa`): the plain mean of snapshots late in the descent of the learning rate.

After every `every`-th step at which the learning rate's scale is below `below`, the weights join the mean; before the
first, there is no average and the weights themselves are seen. below = 0.5 is the SWA of the 2026-03-19 and -20 records
(24 to 30 snapshots), below = 0.2 the "tight SWA" of #374.
Source: arXiv 1803.05407; PRs #162, #374; training catalogue §3.6.
Effect: +0.003 against EMA (#375).
Cost: one more copy of the weights; a pass over both each `every` steps.
Pitfalls: the scripts of 2026-03-22, #549 and #1019 collect the snapshots and never use them: their scores are EMA's.
The schedule has to come down to `below`: a constant learning rate or a floor above it gives no average.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from torch import Tensor

from paramgolf.bounds import require_positive
from paramgolf.optim.average import Shadow
from paramgolf.optim.schedule import Progress
from paramgolf.parts import Role
from paramgolf.registry import technique


@technique("swa", fills="optim.average", source="arXiv 1803.05407; PRs #162, #374", effect="+0.003 against EMA")
@dataclass(frozen=True, kw_only=True)
class SWA:
    """Mean of snapshots late in the descent."""

    below: float = 0.5
    """Scale of the learning rates under which snapshots are taken, 0..1; 0.2 is tight SWA."""
    every: int = 50
    """Steps between two snapshots."""

    def __post_init__(self) -> None:
        if not 0.0 < self.below <= 1.0:
            raise ValueError(f"below={self.below} is not within 0..1")
        require_positive(self, "every")

    def build(self, parameters: Mapping[str, Tensor], roles: Mapping[str, Role]) -> "SWAverager":
        """The mean of nothing yet; every role alike."""
        return SWAverager(self, parameters)


class SWAverager:
    """The mean of one set of parameters."""

    def __init__(self, config: SWA, parameters: Mapping[str, Tensor]) -> None:
        self.config = config
        self.shadow = Shadow(parameters)

    def update(self, progress: Progress, scale: float) -> None:
        """See `Averager.update`."""
        if scale < self.config.below and (progress.step + 1) % self.config.every == 0:
            self.shadow.take(1.0 / (self.shadow.count + 1))

    def apply(self) -> AbstractContextManager[None]:
        """See `Averager.apply`."""
        return self.shadow.shown(self.shadow.copies) if self.shadow.count else nullcontext()

    def state(self) -> dict[str, Tensor]:
        """See `Averager.state`."""
        return self.shadow.state()
