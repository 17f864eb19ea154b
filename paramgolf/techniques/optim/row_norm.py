"""Row normalization (`row_norm`): every row of the update gets the same length before orthogonalization.

u_r ← u_r / max(‖u_r‖₂, 1e-7) for each row r, after Nesterov momentum. Called MuonEq-R; NeoMuon divides by the row's
root mean square instead, a constant factor that the orthogonalization's own division removes.
Source: arXiv 2603.28254; PRs #1217, #1260, #1285, in every record since; NeoMuon: the ternary record.
Effect: about −0.001 (#1285).
Cost: one pass over the update, fused with the momentum when compiled.
Pitfalls: a row whose gradient is small but not zero steps as far as any other. Rows are outputs: of a projection cut
into heads (`per_head`) they are the rows of the parts.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from paramgolf.registry import technique


@technique("row_norm", fills="optim.on_update", source="arXiv 2603.28254; PR #1285", effect="about -0.001")
@dataclass(frozen=True, kw_only=True)
class RowNorm:
    """Rows of equal length before orthogonalization."""

    def memory(self, momentum: Tensor) -> dict[str, Tensor]:
        """None."""
        return {}

    def __call__(self, update: Tensor, memory: Mapping[str, Tensor]) -> Tensor:
        """(n, rows, cols), each row divided by its norm."""
        return update / torch.linalg.vector_norm(update, dim=-1, keepdim=True).clamp_min(1e-7)
