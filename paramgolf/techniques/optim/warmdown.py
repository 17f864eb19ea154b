"""Warmdown over a share of training: constant, then straight towards zero, cut at a floor.

scale(f) = 1 for f < 1 − share, else max((1 − f)/share, floor), f being the share of the budget spent.
Source: PR #1218 (share 2/3), #1493 (0.72), #1626 (0.75), #1855 (0.85); floor 0.10 from #1787.
Effect: the floor is part of a bundle worth −0.0014 before quantization (#1787); 0.75 → 0.85 is null by
itself (#1855). #1125 measured −0.0078 for a warmdown that fits the run's length against one that does not.
Cost: none.
Pitfalls: with a floor the raw weights end unannealed and the average does the rest (raw → EMA 0.0104 at
floor 0.1), so use it with EMA. Weight decay acts through lr·wd and goes on to the end.
"""

from dataclasses import dataclass

from paramgolf.optim.schedule import Progress, warmdown
from paramgolf.registry import technique


@technique("warmdown", fills="optim.schedule", source="PR #1218; floor #1787", effect="part of #1787's -0.0014")
@dataclass(frozen=True, kw_only=True)
class Warmdown:
    """Constant, then straight down over the last share of training."""

    share: float = 0.75
    """Share of training that the descent takes, 0..1."""
    floor: float = 0.0
    """Smallest scale."""

    def __post_init__(self) -> None:
        if not 0.0 < self.share <= 1.0:
            raise ValueError(f"share={self.share} is not within 0..1")
        if not 0.0 <= self.floor <= 1.0:
            raise ValueError(f"floor={self.floor} is not within 0..1")

    def __call__(self, progress: Progress) -> float:
        """The scale at `progress`."""
        return warmdown(progress.fraction, share=self.share, floor=self.floor)
