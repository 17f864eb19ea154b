"""ReLU²: the square of the rectified input.

    a = max(x, 0)²

Source: the baseline; arXiv 2109.08668. Effect: −0.024 bpb against plain ReLU (ternary study). Cost: none.
Pitfalls: its range is twice that of its input in bits, which matters where activations are kept in eight; units that
are never positive get no gradient, which `leaky_relu_squared` avoids.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from paramgolf.registry import technique


@technique("relu_squared", fills="model.activation", source="baseline; arXiv 2109.08668", effect="-0.024 vs ReLU")
@dataclass(frozen=True, kw_only=True)
class ReLUSquared:
    """Squared rectifier."""

    squared_slope: ClassVar[float] = 0.0

    def __call__(self, x: Tensor) -> Tensor:
        return F.relu(x).square()
