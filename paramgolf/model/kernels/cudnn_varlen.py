"""cuDNN's causal attention over packed documents, as an operator that compiles and differentiates.

torch carries the kernel but has no public way to it for variable lengths. Grouped key/value heads are read in place.
Plain twin: `plain_attention` over a segment mask.
"""

from typing import Any

import torch
from torch import Tensor


@torch.library.custom_op("paramgolf::cudnn_varlen", mutates_args=())
def cudnn_varlen_forward(
    q: Tensor, k: Tensor, v: Tensor, edges: Tensor, longest: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """q (T, H, E), k and v (T, K, E), segment offsets (S + 1,) int32 -> y (T, H, E) and what backward needs."""
    result = torch.ops.aten._cudnn_attention_forward(
        q, k, v, None, edges, edges, longest, longest, True, 0.0, True, False
    )
    return result[0], result[1], result[6], result[7]


@cudnn_varlen_forward.register_fake
def cudnn_varlen_forward_shapes(
    q: Tensor, k: Tensor, v: Tensor, edges: Tensor, longest: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Shapes of the forward pass."""
    log_sums = q.new_empty((q.shape[0], q.shape[1], 1), dtype=torch.float32)
    seed = q.new_empty((), dtype=torch.int64)
    return torch.empty_like(q), log_sums, seed, torch.empty_like(seed)


@torch.library.custom_op("paramgolf::cudnn_varlen_backward", mutates_args=())
def cudnn_varlen_backward(gradient: Tensor, saved: list[Tensor], longest: int) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of q, k and v."""
    q, k, v, y, log_sums, seed, offset, edges = saved
    return torch.ops.aten._cudnn_attention_backward(
        gradient, q, k, v, y, log_sums, seed, offset, None, edges, edges, longest, longest, 0.0, True
    )


@cudnn_varlen_backward.register_fake
def cudnn_varlen_backward_shapes(gradient: Tensor, saved: list[Tensor], longest: int) -> tuple[Tensor, Tensor, Tensor]:
    """Shapes of the backward pass."""
    q, k, v = saved[:3]
    return torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)


class CudnnVarlen(torch.autograd.Function):
    """The two operators as one differentiable function."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, edges: Tensor, longest: int) -> Tensor:
        """Keeps what backward needs."""
        y, *rest = cudnn_varlen_forward(q, k, v, edges, longest)
        ctx.save_for_backward(q, k, v, y, *rest, edges)
        ctx.longest = longest
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of q, k, v."""
        return *cudnn_varlen_backward(gradients[0].contiguous(), list(ctx.saved_tensors), ctx.longest), None, None


def cudnn_varlen(q: Tensor, k: Tensor, v: Tensor, edges: Tensor, longest: int) -> Tensor:
    """Causal attention inside segments: q (T, H, E), k and v (T, K, E) bf16 -> (T, H, E)."""
    return CudnnVarlen.apply(q.contiguous(), k.contiguous(), v.contiguous(), edges, longest)
