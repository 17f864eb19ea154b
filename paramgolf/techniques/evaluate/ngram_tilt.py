"""n-gram tilt: one token, hinted at by what stands before, gets a lift, and the distribution is made whole again.

    p'(v) = p(v) · exp(β · 1[v = hint]) / Z,   Z = 1 + p(hint) · (e^β − 1)

The hint is the token that followed the longest earlier match of at least `order` tokens, taken only where such matches
have been right at a rate of `confidence`; without one p' = p. Hint and rate come from the prefix alone.
Source: PRs #1145, #1514, #2135; evaluation catalogue E9. Effect: part of #2135 and #2140 (1.05651, 1.0570).
Cost: a pass over the tokens on the CPU, inside the evaluation's time.
Pitfalls: experts gated by the target ("within-word", "word-start") were switched off in the audited record: they look
at the answer. With `scope=stream` hints come from other documents, which under a protocol that does not read in the
order of the file may not have been scored yet; `document` is safe under all.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from paramgolf.evaluate.matches import match_hints
from paramgolf.evaluate.slots import LogitRework
from paramgolf.registry import technique


@technique("ngram_tilt", fills="evaluate.on_logits", source="PRs #1145 #1514 #2135; E9")
@dataclass(frozen=True, kw_only=True)
class NgramTilt:
    """A lift for the token that an earlier match hints at."""

    order: int = 16
    """Tokens that have to match."""
    beta: float = 2.625
    """Added to the logit of the hint."""
    confidence: float = 0.8
    """Rate of right hints so far, of matches as long, from which on a hint is taken."""
    scope: Literal["document", "stream"] = "document"
    """Where matches are looked for: in the same document, or in everything before."""

    def __post_init__(self) -> None:
        if self.order < 1 or not 0 <= self.confidence <= 1:
            raise ValueError(f"order={self.order} is not positive, or confidence={self.confidence} is not in 0..1")

    def prepare(self, tokens: Tensor, device: torch.device) -> LogitRework:
        """Find the hints of all targets."""
        hints = match_hints(tokens.numpy(), order=self.order, inside=self.scope == "document")
        taken = np.where(hints.confidence >= self.confidence, hints.tokens, -1)
        hinted = torch.from_numpy(taken.astype(np.int32)).to(device)
        beta = self.beta

        def tilt(logits: Tensor, positions: Tensor) -> Tensor:
            hint = hinted[positions].long()[..., None]
            return logits.scatter_add(-1, hint.clamp(min=0), beta * (hint >= 0).to(logits.dtype))

        return tilt
