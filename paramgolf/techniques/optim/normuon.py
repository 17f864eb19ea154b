"""NorMuon (`normuon`): neurons that always get large steps get smaller ones, as in Adam, but one number for each.

After orthogonalization, v ← β·v + (1 − β)·mean(O²) over each row (each column when rows < cols);
O ← O/√v, rescaled to the Frobenius norm that O had. v starts at zero; the rescaling cancels what that biases.
Source: arXiv 2510.05491; training catalogue §3.2.
Effect: "−0.033" in an early ternary development run; −15 to −50 of 2,330 steps in modded-nanogpt, dropped there once
SOAP came. Never in a record.
Cost: two passes over the direction, and a number for each row or column.
Pitfalls: reported unstable without a warm-up of the momentum.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from paramgolf.registry import technique


@technique("normuon", fills="optim.on_direction", source="arXiv 2510.05491", effect="never in a record")
@dataclass(frozen=True, kw_only=True)
class NorMuon:
    """Orthogonal directions divided by the running size of each neuron."""

    beta: float = 0.95
    """Decay of the mean squares."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.beta < 1.0:
            raise ValueError(f"beta={self.beta} is not within 0..1")

    def memory(self, momentum: Tensor) -> dict[str, Tensor]:
        """(n, rows, 1), or (n, 1, cols) for wide matrices."""
        return {"square": torch.zeros_like(momentum.mean(neuron_axis(momentum), keepdim=True))}

    def __call__(self, direction: Tensor, memory: Mapping[str, Tensor]) -> Tensor:
        """(n, rows, cols), of the same Frobenius norm."""
        square = memory["square"]
        square.lerp_(direction.square().mean(neuron_axis(direction), keepdim=True), 1.0 - self.beta)
        balanced = direction * (square + 1e-20).rsqrt()
        before, after = (torch.linalg.vector_norm(x, dim=(-2, -1), keepdim=True) for x in (direction, balanced))
        return balanced * (before / after.clamp_min(1e-20))


def neuron_axis(matrices: Tensor) -> int:
    """The axis that belongs to one neuron: the columns of a row, or the rows of a column when there are fewer rows."""
    return -2 if matrices.shape[-2] < matrices.shape[-1] else -1
