"""Warmdown over a number of steps: constant, then straight to zero at the projected end.

scale = min(1, left/iterations), `left` being the steps that the rest of the budget holds at the pace so far.
Source: the published baseline (1200 steps); 3000 from 2026-03-18, 3500 in #549.
Effect: 3000 → 3500 steps −0.0002 (training catalogue §8).
Cost: none.
Pitfalls: a run of fewer steps than `iterations` never reaches the full learning rate; prefer `warmdown`.
A change of pace (a second graph, a slow disk) bends the line.
"""

from dataclasses import dataclass

from paramgolf.bounds import require_positive
from paramgolf.optim.schedule import Progress, warmdown_by_steps
from paramgolf.registry import technique


@technique("warmdown_steps", fills="optim.schedule", source="the published baseline", effect="3000 to 3500: -0.0002")
@dataclass(frozen=True, kw_only=True)
class WarmdownSteps:
    """Constant, then straight to zero over the last steps."""

    iterations: int = 1200
    """Steps that the descent takes."""

    def __post_init__(self) -> None:
        require_positive(self, "iterations")

    def __call__(self, progress: Progress) -> float:
        """The scale at `progress`."""
        return warmdown_by_steps(progress.left, self.iterations)
