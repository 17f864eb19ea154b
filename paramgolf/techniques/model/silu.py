"""SiLU (swish): x·σ(x). With `glu` it makes SwiGLU.

    a = x / (1 + exp(−x))

Source: arXiv 1702.03118, arXiv 2002.05202. Effect: see `glu`. Cost: an exponential more than a rectifier.
Pitfalls: alone it is an unsquared rectifier, +0.02 to +0.03 bpb (ternary study, of such); no fused product knows it.
"""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from paramgolf.registry import technique


@technique("silu", fills="model.activation", source="arXiv 1702.03118", effect="see glu")
@dataclass(frozen=True, kw_only=True)
class SiLU:
    """The sigmoid-weighted linear unit."""

    def __call__(self, x: Tensor) -> Tensor:
        return F.silu(x)
