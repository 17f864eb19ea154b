"""QK norm: root-mean-square normalization of every query and key head before attention.

    q ← q / rms(q),  k ← k / rms(k)       over the E channels of a head

Bounds the attention logits by the gain times sqrt(E), which lets the learning rate be high.
Source: the baseline; arXiv 2010.04245. Effect: not measured alone. Cost: no parameters, one elementwise
pass, shared with rotation and gain where `model.fused` has `queries_keys`.
Pitfalls: the norm's epsilon is that of the arithmetic, so bf16 and fp32 differ for heads near zero; put it before
`rope` and `qk_gain`.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from paramgolf.model.slots import Dims, Pass
from paramgolf.registry import technique


@technique("qk_norm", fills="model.on_qk", source="baseline; arXiv 2010.04245", effect="not measured alone")
@dataclass(frozen=True, kw_only=True)
class QKNorm:
    """Normalized queries and keys."""

    def build(self, dims: Dims, layer: int) -> nn.Module:
        """The norm of one layer."""
        return QKNormalizer()


class QKNormalizer(nn.Module):
    """RMS norm of both, without gain."""

    kernel_kind: ClassVar[str] = "norm"

    def forward(self, q: Tensor, k: Tensor, now: Pass) -> tuple[Tensor, Tensor]:
        """(B, T, H, E), (B, T, K, E) -> the same."""
        return F.rms_norm(q, q.shape[-1:]), F.rms_norm(k, k.shape[-1:])
