"""Per-head Muon (`per_head`): the query, key and value rows of a head are a matrix of their own.

A projection (heads·E, D) is orthogonalized as heads/together matrices (together·E, D), so that no head's gradient
decides over another's step. Rows that belong to heads are declared where the projection is made (`Linear.heads`).
Source: modded-nanogpt #253 (training catalogue §3.2); never tried in the challenge.
Effect: −10 of 1,490 steps there.
Cost: less than whole matrices: the products of the iteration are E×E instead of heads·E.
Pitfalls: the output projection's heads are its columns and stay together. With `row_norm` the effect may be smaller.
"""

from dataclasses import dataclass

from paramgolf.bounds import require_positive
from paramgolf.registry import technique


@technique("per_head", fills="optim.matrix.split", source="modded-nanogpt #253", effect="-10 of 1490 steps there")
@dataclass(frozen=True, kw_only=True)
class PerHead:
    """Heads orthogonalized by themselves."""

    together: int = 1
    """Heads in one matrix; 2 is the paired form."""

    def __post_init__(self) -> None:
        require_positive(self, "together")

    def __call__(self, heads: int) -> int:
        """Matrices that `heads` heads make; all in one when they do not divide."""
        return heads // self.together if heads % self.together == 0 else 1
