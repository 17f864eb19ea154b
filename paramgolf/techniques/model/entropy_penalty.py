"""Entropy penalty: training pays for the bits that the codes of its block matrices would take.

    u = w / step, step = sigmas·std(w) / limit of each row;  p: histogram of u, each weight shared out linearly
    between its two nearest codes;  loss += strength · mean over matrices of −Σ p·log2 p         (bits a weight)

Gradients pull a weight towards the more frequent of its two codes; the step counts as constant.
Source: PR #1805 ("CompQAT"). Effect: 1.10314 bpb, worse than its parent; weight decay is the accepted way to smaller
files. Cost: one pass over every `every`-th row of each matrix and micro-batch.
Pitfalls: an export whose step follows the deviation of a row spends the same bits on any scale: only the shape of the
distribution can save some. The printed training loss contains the penalty.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from paramgolf.parts import Role, declared
from paramgolf.registry import technique


@technique("entropy_penalty", fills="model.penalties", source="PR #1805", effect="+ (worse than its parent)")
@dataclass(frozen=True, kw_only=True)
class EntropyPenalty:
    """Bits a weight, as a cost."""

    strength: float = 0.001
    """Nats a token that one bit a weight costs."""
    bits: int = 6
    """Of the export's codes."""
    sigmas: float = 12.85
    """Standard deviations of a row at which the export clips."""
    every: int = 8
    """Rows are sampled by this stride."""

    def __post_init__(self) -> None:
        if not 2 <= self.bits <= 8 or self.sigmas <= 0 or self.every < 1:
            raise ValueError(
                f"bits={self.bits} lies within 2 and 8, sigmas={self.sigmas} and every={self.every} above 0"
            )

    def __call__(self, model: nn.Module) -> Tensor:
        """Scalar: what the weights of `model` cost now."""
        matrices = [item.parameter for item in declared(model) if item.role in (Role.ATTENTION, Role.MLP)]
        bits = [code_entropy(matrix[:: self.every], self.bits, self.sigmas) for matrix in matrices]
        return self.strength * torch.stack(bits).mean()


def code_entropy(matrix: Tensor, bits: int, sigmas: float) -> Tensor:
    """Scalar: bits a code of `matrix` (rows, columns) takes in an ideal coder, differentiable."""
    limit = 2 ** (bits - 1) - 1
    step = (sigmas / limit * matrix.detach().std(1, keepdim=True)).clamp_min(1e-12)
    place = (matrix / step).clamp(-limit, limit).flatten() + limit
    below = place.detach().floor().clamp_max(2 * limit - 1)
    above_share = place - below
    counts = torch.zeros(2 * limit + 1, device=matrix.device, dtype=matrix.dtype)
    counts = counts.index_add(0, below.long(), 1 - above_share).index_add(0, below.long() + 1, above_share)
    share = counts / place.numel()
    return -(share * share.clamp_min(1e-12).log2()).sum()
