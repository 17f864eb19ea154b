"""Cautious decay (`cautious_decay`): only coordinates that the step itself makes smaller decay.

p ← p − lr·wd·p·1[O·p > 0] − lr·O, O being the direction that is subtracted.
Source: arXiv 2510.12402; modded-nanogpt, both tracks; training catalogue §3.5.
Effect: with a floor on row norms 2,704 → 2,667 steps there; in the challenge #375 tried it on SP1024 and rejected it.
Cost: one more read of the weights in the step.
Pitfalls: weights end larger than with the same decay everywhere, and so does the artifact: the decay has to be tuned
again.
"""

from dataclasses import dataclass

from torch import Tensor

from paramgolf.registry import technique


@technique("cautious_decay", fills="optim.matrix.decay_share", source="arXiv 2510.12402", effect="rejected by #375")
@dataclass(frozen=True, kw_only=True)
class CautiousDecay:
    """Decay where step and decay agree."""

    def __call__(self, direction: Tensor, weights: Tensor) -> Tensor:
        """(n, rows, cols) 1 where the step shrinks the weight, else 0."""
        return (direction * weights > 0).to(weights.dtype)
