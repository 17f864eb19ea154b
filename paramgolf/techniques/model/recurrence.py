"""Depth recurrence: a segment of layers runs again, with the same weights, from some share of training on.

    0 … first−1,  (first … last) repeated 1 + n times,  last+1 … L−1        n: how many of `starts` are past

With segment 3–5 and two extra passes, 11 layers run as 0 1 2 3 4 5 3 4 | 5 3 4 5 6 7 8 9 10: 17 places. U-Net skips
follow the places, not the layers, and have a row for each pair of the longest order: 8 here, 7 for segment 4–5.
A universal transformer is the segment of all layers; `iteration_embedding` then tells the passes apart.
Source: PRs #1204, #1394 (4–5, two extra from 0.50), #1412 (from 0.50 and 0.65), #1493 to #1855 (3–5, both from 0.35).
Effect: −0.001 to −0.002 bpb for 3–5 against 4–5 (#1493); progressive starts ±0 (#1412). Worse from
the first step on. Cost: no bytes but for rows of skips; 17 places take 1.46 times as long as 11 (#1855).
Pitfalls: when it starts, a row of the skips comes to join other layers than it was trained for (row 1 from 6←3 to
3←3). Each start compiles one more graph. Rounding errors of shared layers add up over the passes. The published name
"Loop45" also stands for the segment 3–5, and its "×2" for two *extra* passes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from paramgolf.registry import technique


@technique("recurrence", fills="model.order", source="PRs #1204 #1394 #1412 #1493", effect="-0.001 to -0.002")
@dataclass(frozen=True, kw_only=True)
class Recurrence:
    """A segment of layers that comes again."""

    each_once: ClassVar[bool] = False

    first: int = 1
    """First layer of the segment, from 0."""
    last: int = 2
    """Last layer of the segment."""
    starts: tuple[float, ...] = (0.35,)
    """Share of training from which each extra pass runs, ascending; as many passes as there are."""

    def __post_init__(self) -> None:
        if not 0 <= self.first <= self.last:
            raise ValueError(f"a segment from layer {self.first} to layer {self.last} holds none")
        if list(self.starts) != sorted(self.starts) or not all(0 <= start <= 1 for start in self.starts):
            raise ValueError(f"starts are shares of training in ascending order, unlike {self.starts}")

    @property
    def switches(self) -> tuple[float, ...]:
        """Where the compiled graph changes."""
        return self.starts

    def __call__(self, layers: int, progress: float) -> Sequence[int]:
        """The layers that run, in order."""
        if self.last >= layers:
            raise ValueError(f"the segment to repeat ends at layer {self.last}, the model at {layers - 1}")
        extra = sum(start <= progress for start in self.starts)
        segment = range(self.first, self.last + 1)
        return [*range(self.first), *segment, *([*segment] * extra), *range(self.last + 1, layers)]
