"""Decay taper (`decay_taper`): the matrices' weight decay falls towards the end of training.

wd·s(f), s being 1 until `start` of training, then straight to `end` at its end.
Source: PR #1729 (1 → 0.5 from 0.70 on), dropped without a word in #1736; training catalogue §3.5.
Effect: not isolated: #1736 without it is better by 0.0017, with a gate besides.
Cost: none.
Pitfalls: decay acts through lr·wd, so it falls with the learning rate anyway. It is what keeps weights small, hence
the artifact: a taper may cost bytes.
"""

from dataclasses import dataclass

from paramgolf.optim.schedule import Progress, cooled_down
from paramgolf.registry import technique


@technique("decay_taper", fills="optim.matrix.decay_schedule", source="PR #1729", effect="not isolated")
@dataclass(frozen=True, kw_only=True)
class DecayTaper:
    """Weight decay that falls over the last part of training."""

    start: float = 0.70
    """Share of training after which it falls, 0..1."""
    end: float = 0.5
    """Factor at the end."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.start < 1.0:
            raise ValueError(f"start={self.start} is not within 0..1")
        if not 0.0 <= self.end <= 1.0:
            raise ValueError(f"end={self.end} is not within 0..1")

    def __call__(self, progress: Progress) -> float:
        """The factor at `progress`."""
        return cooled_down(progress.fraction, start=1.0, end=self.end, share=1.0 - self.start)
