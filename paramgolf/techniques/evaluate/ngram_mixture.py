"""Online n-gram mixture: counts of what followed the same text before, mixed in as a whole distribution.

    p'(v) = (n(v) + c · p(v)) / (Σ n + c)        n: how often v followed the longest known context of ≤ `order` tokens

The model is the base measure of a Dirichlet prior of strength c. Counts come from the prefix alone, and a target is
counted after it has been scored; the weight of the mixture depends on the context, never on the target. Σ p' = 1.
Source: the normalized form of PRs #900, #948; evaluation catalogue E10. Effect: no clear gain on a strong model shown.
Cost: a pass over the tokens on the CPU and 8 · `keep` bytes a target on the device.
Pitfalls: the class of hashed caches was refused for being evaluated on the realized token only (#677): this one is a
distribution, but there is no ruling on Dirichlet mixtures. `scope` as in ngram_tilt.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from paramgolf.evaluate.matches import ngram_followers
from paramgolf.evaluate.slots import LogitRework
from paramgolf.registry import technique


@technique("ngram_mixture", fills="evaluate.on_logits", source="PRs #900 #948, normalized; E10")
@dataclass(frozen=True, kw_only=True)
class NgramMixture:
    """The model's distribution, moved towards what has followed before."""

    order: int = 5
    """Tokens of the longest context."""
    concentration: float = 8.0
    """c: how many counts the model's own distribution is worth."""
    keep: int = 4
    """Followers remembered of a context."""
    scope: Literal["document", "stream"] = "document"
    """Where text is remembered from: the same document, or everything before."""

    def __post_init__(self) -> None:
        if self.order < 1 or self.keep < 1 or self.concentration <= 0:
            raise ValueError(
                f"order={self.order}, keep={self.keep} or concentration={self.concentration} is not positive"
            )

    def prepare(self, tokens: Tensor, device: torch.device) -> LogitRework:
        """Find the followers for all targets."""
        inside = self.scope == "document"
        followers = ngram_followers(tokens.numpy(), order=self.order, keep=self.keep, inside=inside)
        candidates = torch.from_numpy(followers.tokens).to(device)
        counts = torch.from_numpy(followers.counts).to(device)
        strength = self.concentration

        def mix(logits: Tensor, positions: Tensor) -> Tensor:
            count = counts[positions].to(logits.dtype)
            whole = count.sum(-1, keepdim=True) + strength
            counted = torch.zeros_like(logits).scatter_add(-1, candidates[positions].long().clamp(min=0), count / whole)
            return torch.logaddexp(logits.log_softmax(-1) + (strength / whole).log(), counted.log())

        return mix
