"""Orthogonalization by Newton–Schulz iteration: what Muon does to a momentum matrix.

Each iteration applies an odd quintic to the singular values and leaves the singular vectors alone:
A = XXᵀ, X <- aX + (bA + cA²)X. The classic coefficients (K. Jordan, Muon, 2024) do not converge to 1
but spread the singular values over about 0.7..1.2, which Muon does not mind.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from paramgolf.registry import technique

Quintic = tuple[float, float, float]
"""(a, b, c) of a·s + b·s³ + c·s⁵."""

CLASSIC: Quintic = (3.4445, -4.7750, 2.0315)


def orthogonalize(matrices: Tensor, quintics: Sequence[Quintic], dtype: torch.dtype = torch.bfloat16) -> Tensor:
    """Nearly the nearest semi-orthogonal matrices to `matrices` (..., rows, cols), in `dtype`.

    One iteration for each of `quintics`. The first division makes every singular value at most 1 and
    happens in the dtype of `matrices`; only the products run in `dtype`. A zero matrix stays zero.
    """
    rows, cols = matrices.shape[-2:]
    norm = torch.linalg.vector_norm(matrices, dim=(-2, -1), keepdim=True)
    x = (matrices / (norm + 1e-7)).to(dtype).reshape(-1, rows, cols)
    if rows > cols:
        x = x.mT
    for a, b, c in quintics:
        gram = torch.bmm(x, x.mT)
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    if rows > cols:
        x = x.mT
    return x.reshape(matrices.shape)


@technique("classic_quintic", fills="optim.matrix.quintics", source="K. Jordan, Muon, 2024; the published baseline")
@dataclass(frozen=True, kw_only=True)
class ClassicQuintic:
    """The same quintic in every iteration, steep at zero."""

    def __call__(self, steps: int) -> tuple[Quintic, ...]:
        """`steps` times (3.4445, −4.7750, 2.0315)."""
        return (CLASSIC,) * steps
