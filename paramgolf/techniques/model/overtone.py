"""Overtone start: the token embedding begins with singular values that fall as a power of their rank.

    E = U S Vᵀ:   S_k ← S_1 · k^−power,  E ← U S Vᵀ           k = 1, 2, …

Source: 2026-03-19 SlidingWindow_FP16Emb_10L_MuonWD_OvertoneInit. Effect: in a bundle only, later dropped.
Cost: one singular value decomposition, about a second at 8,192×512. Pitfall: the largest singular value stays, so
the embedding as a whole gets smaller than its declared standard deviation.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from paramgolf.parts import Role, declared
from paramgolf.registry import technique


@technique(
    "overtone",
    fills="model.on_reset",
    source="2026-03-19 SlidingWindow_FP16Emb_10L_MuonWD_OvertoneInit",
    effect="not measured alone",
)
@dataclass(frozen=True, kw_only=True)
class Overtone:
    """A spectrum of overtones for the token embedding."""

    power: float = 0.5
    """How fast singular values fall."""

    def start(self, model: nn.Module) -> None:
        """Rework the token embedding of `model`."""
        for _, parameter, role in declared(model):
            if role is Role.EMBED and parameter.ndim == 2:
                parameter.copy_(with_overtones(parameter, self.power))


def with_overtones(matrix: Tensor, power: float) -> Tensor:
    """(rows, columns) with the singular vectors of `matrix` and values S_1 · k^−power."""
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    ranks = torch.arange(1, len(values) + 1, dtype=values.dtype, device=values.device)
    return (left * (values[0] * ranks**-power)) @ right
