"""The training clock: what counts, when to stop, and how far along a run is."""

import statistics
import time
from collections.abc import Callable
from itertools import pairwise

from paramgolf.errors import OverTime
from paramgolf.optim.schedule import Progress
from paramgolf.train.config import TrainConfig


class Clock:
    """Seconds of training, stopped around validation and checkpoints.

    By the clock, a run stops before the step that would pass the budget; by steps, after the last.
    """

    def __init__(
        self, config: TrainConfig, seconds: float, *, spent: float = 0.0, now: Callable[[], float] = time.perf_counter
    ) -> None:
        self.config = config
        self.budget = seconds - config.reserve_seconds
        self.now = now
        self.spent = spent
        self.since: float | None = None
        self.ends: list[float] = []
        """`elapsed` when this process began to train, and at the end of each of its steps."""

    @property
    def elapsed(self) -> float:
        """Training seconds so far."""
        return self.spent + (self.now() - self.since if self.since is not None else 0.0)

    def start(self) -> None:
        """Let time count."""
        assert self.since is None
        if not self.ends:
            self.ends.append(self.spent)
        self.since = self.now()

    def stop(self) -> None:
        """Let time stand still."""
        self.spent = self.elapsed
        self.since = None

    def lap(self) -> None:
        """A step has ended."""
        self.ends.append(self.elapsed)

    def median_step(self, last: int = 0) -> float:
        """Median time of the steps of this process, or of the `last` of them, seconds; 0 before one has ended."""
        ends = self.ends[-last - 1 :] if last else self.ends
        return statistics.median(b - a for a, b in pairwise(ends)) if len(ends) > 1 else 0.0

    def progress(self, step: int) -> Progress:
        """How far a run with `step` finished steps is."""
        if self.config.by == "steps":
            return Progress(fraction=step / self.config.steps, step=step, left=float(self.config.steps - step))
        average = self.elapsed / step if step else 0.0
        left = min((self.budget - self.elapsed) / average if average else float("inf"), self.config.steps - step)
        fraction = max(self.elapsed / self.budget, step / self.config.steps)
        return Progress(fraction=min(fraction, 1.0), step=step, left=max(left, 0.0))

    def over(self, step: int, in_flight: int = 0) -> bool:
        """Whether training ends after `step` steps; `in_flight` of them are still running on the device."""
        if step >= self.config.steps:
            return True
        if self.config.by == "steps":
            return False
        # A resumed process has no step of its own yet and goes by the average of the steps before it.
        pace = self.median_step(last=20) or (self.elapsed / step if step else 0.0)
        return self.elapsed + (1 + in_flight) * pace > self.budget

    def require_room(self) -> None:
        """Raise `OverTime` when the budget does not hold a single step."""
        if self.config.by == "clock" and self.elapsed > self.budget:
            raise OverTime(
                "the time budget is too small for one training step",
                evidence=f"one step took {self.elapsed:.2f} s, the budget is {self.budget:g} s",
                fix="--set contest.train_seconds=..., or a smaller --set train.batch_tokens=...",
            )
