"""Several exponential moving averages at once (`ema_horizons`): one training says which horizon is best.

    ema_i ← ema_i + (w − ema_i)/h_i after each step, each in fp32

Evaluation and export see the first; `HorizonAverager.apply(i)` shows the others: `benchmarks/ladder.py --horizons`
scores them. An average changes nothing of the training, so each is what a run with it alone would have kept.
Source: `ema`; keeping several is common practice (arXiv 2312.02696 keeps two and reconstructs all others).
Effect: none by itself. Cost: a copy of the weights each, and 12 bytes a weight moved a step (by count
0.15 ms for 36 million on an H100).
Pitfalls: a choice made by the validation text is fitted to it: choose on one seed or contest, use it in another.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass

from torch import Tensor

from paramgolf.optim.average import Shadow
from paramgolf.optim.schedule import Progress
from paramgolf.parts import Role
from paramgolf.registry import technique


@technique("ema_horizons", fills="optim.average", source="arXiv 2312.02696; ema", effect="none: for measuring")
@dataclass(frozen=True, kw_only=True)
class EMAHorizons:
    """Averages that forget at different speeds; the first is seen."""

    steps: tuple[float, ...] = (333.0,)
    """Steps over which each forgets, 1/(1 − decay): at least 1."""

    def __post_init__(self) -> None:
        if not self.steps or min(self.steps) < 1.0:
            raise ValueError(f"steps={self.steps} are none, or not all at least 1")

    def build(self, parameters: Mapping[str, Tensor], roles: Mapping[str, Role]) -> "HorizonAverager":
        """The averages, at the weights as they are; every role alike."""
        return HorizonAverager(self, parameters)


class HorizonAverager:
    """The averages of one set of parameters."""

    def __init__(self, config: EMAHorizons, parameters: Mapping[str, Tensor]) -> None:
        self.config = config
        self.shadows = [Shadow(parameters) for _ in config.steps]

    def update(self, progress: Progress, scale: float) -> None:
        """See `Averager.update`."""
        for shadow, steps in zip(self.shadows, self.config.steps, strict=True):
            shadow.take(1.0 / steps)

    def apply(self, which: int = 0) -> AbstractContextManager[None]:
        """See `Averager.apply`; `which` of them, in the order of `steps`."""
        return self.shadows[which].shown(self.shadows[which].copies)

    def state(self) -> dict[str, Tensor]:
        """See `Averager.state`."""
        states = enumerate(shadow.state() for shadow in self.shadows)
        return {f"{place}/{name}": tensor for place, state in states for name, tensor in state.items()}
