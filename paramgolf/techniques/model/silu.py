"""SiLU (swish): x·σ(x). With `glu` it makes SwiGLU.

    a = x / (1 + exp(−x))

Source: arXiv 1702.03118, arXiv 2002.05202. Effect: see `glu`. Cost: an exponential more than a rectifier.
"""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from paramgolf.registry import technique


@technique("silu", fills="model.activation", source="arXiv 1702.03118")
@dataclass(frozen=True, kw_only=True)
class SiLU:
    """The sigmoid-weighted linear unit."""

    def __call__(self, x: Tensor) -> Tensor:
        return F.silu(x)
