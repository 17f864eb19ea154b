"""A constant learning rate: scale(f) = 1.

Source: none, the plain thing. Effect: the reference of every other schedule. Cost: none.
Pitfalls: without a descent the weights end noisy, and the artifact inherits the noise.
"""

from dataclasses import dataclass

from paramgolf.optim.schedule import Progress
from paramgolf.registry import technique


@technique("constant_rate", fills="optim.schedule", source="none: the plain thing")
@dataclass(frozen=True, kw_only=True)
class Constant:
    """The learning rate never changes."""

    def __call__(self, progress: Progress) -> float:
        """1."""
        return 1.0
