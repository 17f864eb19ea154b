"""LeakyReLU²: the square of a rectifier that lets some of the negative side through.

    p = W1 x;   a = p² for p > 0, (s·p)² else;   gradient 2p, 2s²p

Both sides give non-negative outputs.
Source: PRs #493, #549; s = 0.5 in every later record. Effect: −0.0021 (one seed, #549) to −0.003 bpb (#493); slopes
0.3 (#1948) and 0.75 (#977) within 0.0005. Cost: none.
Pitfall: without the square it is worse than ReLU² (1.2094 against 1.1878, ternary study).
"""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from paramgolf.registry import technique


@technique("leaky_relu_squared", fills="model.activation", source="PRs #493 #549", effect="-0.0021 to -0.003")
@dataclass(frozen=True, kw_only=True)
class LeakyReLUSquared:
    """Squared leaky rectifier."""

    slope: float = 0.5
    """Slope of the negative side before squaring."""

    @property
    def squared_slope(self) -> float:
        """The slope, for the kernel that squares."""
        return self.slope

    def __call__(self, x: Tensor) -> Tensor:
        return F.leaky_relu(x, self.slope).square()
