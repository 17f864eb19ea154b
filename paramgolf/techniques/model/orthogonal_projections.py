"""Orthogonal projections: the matrices beside the blocks start orthogonal too, whatever they declare.

    W = Q of a Gaussian matrix's QR        of every projection beside the blocks with both sides of at least 64

In the records one loop over all linear layers did this after each had set its own start, and so overwrote the zeros
of the projections of bigram hash and value embedding. Source: PRs #162, #374, #414, #549, #1218.
Effect: not isolated. Cost: none. Pitfall: with it a technique that would be neutral at the start is not.
"""

from dataclasses import dataclass

from torch import nn

from paramgolf.parts import Role, declared
from paramgolf.registry import technique


@technique(
    "orthogonal_projections",
    fills="model.on_reset",
    source="PRs #162 #374 #414 #549 #1218",
    effect="not measured alone",
)
@dataclass(frozen=True, kw_only=True)
class OrthogonalProjections:
    """Orthonormal rows or columns beside the blocks."""

    least: int = 64
    """Shortest side of a matrix that is treated so."""

    def start(self, model: nn.Module) -> None:
        """Overwrite the projections of `model`."""
        for _, parameter, role in declared(model):
            if role is Role.PROJECTION and parameter.ndim == 2 and min(parameter.shape) >= self.least:
                nn.init.orthogonal_(parameter)
