"""Orthogonal start: a matrix with both sides of at least 64 starts with orthonormal rows or columns.

    W = gain · Q,  Q of a Gaussian matrix's QR           rows orthonormal where there are fewer rows, else columns

Smaller matrices start uniform on ±1/sqrt(fan_in). Source: PRs #135, #162 and every later record; arXiv 1312.6120.
Effect: came in one bundle with SmearGate, never isolated. Cost: a QR for each matrix, some seconds at 11×512.
Pitfall: the records ran it over every projection, also over those beside the blocks that were written to start at
zero; `orthogonal_projections` does that.
"""

from dataclasses import dataclass

from torch import Tensor, nn

from paramgolf.parts import kaiming
from paramgolf.registry import technique


@technique("orthogonal_init", fills="model.init*", source="PRs #135 #162; arXiv 1312.6120", effect="not measured alone")
@dataclass(frozen=True, kw_only=True)
class OrthogonalInit:
    """Orthonormal rows or columns."""

    gain: float = 1.0
    """Every singular value at the start."""
    least: int = 64
    """Shortest side of a matrix that is treated so."""

    def __call__(self, tensor: Tensor) -> object:
        return orthogonal_start(tensor, self.gain) if min(tensor.shape) >= self.least else kaiming(tensor)


def orthogonal_start(tensor: Tensor, gain: float) -> Tensor:
    """Fill `tensor` (rows, columns) with a random matrix whose singular values are all `gain`."""
    return nn.init.orthogonal_(tensor, gain)
