"""Schedules as pure functions of how far training is. Source: training catalogue §3.2 and §4."""

from typing import NamedTuple


class Progress(NamedTuple):
    """How far training is, before a step. The trainer decides what it is measured by: clock or steps."""

    fraction: float
    """Share of the training budget spent, 0..1."""
    step: int
    """Finished steps."""
    left: float
    """Steps that the rest of the budget still holds, projected from the steps so far; may be infinite."""


def warmdown(fraction: float, *, share: float, floor: float = 0.0) -> float:
    """1, then over the last `share` of training straight towards 0, never below `floor` (PR #1218; floor #1787).

    The line aims at 0 and is cut at `floor`, so the floor is reached before the end.
    """
    return max(min(1.0, (1.0 - fraction) / share), floor)


def warmdown_by_steps(left: float, iterations: int) -> float:
    """1, then over the last `iterations` steps straight to 0 (the published baseline)."""
    return min(1.0, max(left, 0.0) / iterations)


def warmed_up(step: int, *, start: float, end: float, steps: int) -> float:
    """From `start` to `end` in a straight line over `steps` steps, then `end` (Muon's momentum)."""
    if step >= steps:
        return end
    return start + (end - start) * step / steps


def cooled_down(fraction: float, *, start: float, end: float, share: float) -> float:
    """`start`, then over the last `share` of training in a straight line to `end` (Muon's momentum; catalogue §4)."""
    if not share or fraction <= 1.0 - share:
        return start
    return end + (start - end) * (1.0 - fraction) / share
