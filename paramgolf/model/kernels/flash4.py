"""FlashAttention-4's CuTe kernels (flash-attn-4; Hopper and Blackwell) as operators that compile and differentiate.

Documents are read in place by their offsets, grouped key/value heads without repeating them, and nothing is asked of
the host. Plain twin: `plain_attention`. Source: github.com/Dao-AILab/flash-attention, flash_attn/cute.

Where several query heads share a key head, the library's backward pass adds their gradients up in fp32, which it fills
with zeros, adds to and converts: ten tensors of (T, K, E) bf16. Keys and values may come once for every query head
instead (`spread_heads`, a view); then the pass runs once for each head of the groups, has no sums to keep, and whoever
spread them adds up what comes back.
"""

from functools import cache
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, library


@cache
def flash4_present() -> bool:
    """Whether flash-attn-4 is installed."""
    return find_spec("flash_attn") is not None and find_spec("flash_attn.cute") is not None


def flash4_reach(edges: Tensor | None, longest: int, window: int) -> dict[str, Any]:
    """How the library's forward and backward are told what a query sees."""
    documents = {"cu_seqlens_q": edges, "cu_seqlens_k": edges, "max_seqlen_q": longest, "max_seqlen_k": longest}
    back = {"window_size_left": window - 1, "window_size_right": 0} if window else {}
    return {"causal": not window, **back, **(documents if edges is not None else {})}


@library.custom_op("paramgolf::flash4_forward", mutates_args=())
def flash4_forward(
    q: Tensor, k: Tensor, v: Tensor, edges: Tensor | None, longest: int, window: int
) -> tuple[Tensor, Tensor]:
    """q (T, H, E), k and v (T, K, E), or with rows in front when `edges` is None -> y like q, log sums fp32."""
    from flash_attn.cute.interface import _flash_attn_fwd

    y, log_sums, *_ = _flash_attn_fwd(q, k, v, return_lse=True, **flash4_reach(edges, longest, window))
    return y, log_sums


@flash4_forward.register_fake
def flash4_forward_shapes(
    q: Tensor, k: Tensor, v: Tensor, edges: Tensor | None, longest: int, window: int
) -> tuple[Tensor, Tensor]:
    """Shapes of the forward pass."""
    *rows, length, heads, _ = q.shape
    return torch.empty_like(q), q.new_empty((*rows, heads, length), dtype=torch.float32)


@library.custom_op("paramgolf::flash4_backward", mutates_args=())
def flash4_backward(
    gradient: Tensor, saved: list[Tensor], edges: Tensor | None, longest: int, window: int, spread: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of q, k and v, those of `spread` k and v for each query head; `saved` is q, k, v, y and log sums."""
    from flash_attn.cute.interface import _flash_attn_bwd

    q, k, v, y, log_sums = saved
    dq, dk, dv = flash4_backward_shapes(gradient, saved, edges, longest, window, spread)
    reach, heads = flash4_reach(edges, longest, window), k.shape[-2]
    if not spread:
        _flash_attn_bwd(q, k, v, y, gradient, log_sums, dq=dq, dk=dk, dv=dv, **reach)
        return dq, dk, dv
    for place in range(q.shape[-2] // heads):
        of_q, of_y, of_gradient, of_sums, of_dq = (
            tensor.unflatten(-2, (heads, -1))[..., place, :] for tensor in (q, y, gradient, log_sums, dq)
        )
        of_dk, of_dv = dk[..., place, :], dv[..., place, :]
        _flash_attn_bwd(of_q, k, v, of_y, of_gradient, of_sums, dq=of_dq, dk=of_dk, dv=of_dv, **reach)
    return dq, dk, dv


@flash4_backward.register_fake
def flash4_backward_shapes(
    gradient: Tensor, saved: list[Tensor], edges: Tensor | None, longest: int, window: int, spread: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Shapes of the backward pass."""
    q, k, v = saved[:3]
    if not spread:
        return torch.empty_like(q), torch.empty_like(k), v.new_empty(v.shape)
    dk, dv = (of.new_empty(*of.shape[:-1], q.shape[-2] // of.shape[-2], of.shape[-1]) for of in (k, v))
    return torch.empty_like(q), dk, dv


def spread_heads(x: Tensor, groups: int) -> Tensor:
    """x (..., K, E) once for each of `groups` query heads, (..., K, groups, E), without copying."""
    return x.unsqueeze(-2).expand(*x.shape[:-1], groups, x.shape[-1])


class Flash4(torch.autograd.Function):
    """The two operators as one differentiable function."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, edges: Tensor | None, longest: int, window: int) -> Tensor:
        """Keeps what the backward pass reads again."""
        spread = k.dim() > q.dim()
        if spread:
            k, v = k[..., 0, :], v[..., 0, :]
        y, log_sums = flash4_forward(q, k, v, edges, longest, window)
        ctx.save_for_backward(q, k, v, y, log_sums, edges)
        ctx.longest, ctx.window, ctx.spread = longest, window, spread
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of q, k, v."""
        *saved, edges = ctx.saved_tensors
        found = flash4_backward(gradients[0].contiguous(), saved, edges, ctx.longest, ctx.window, ctx.spread)
        return *found, None, None, None


def flash4_attention(q: Tensor, k: Tensor, v: Tensor, edges: Tensor | None, longest: int, window: int) -> Tensor:
    """Causal attention: q (B, T, H, E), k and v (B, T, K, E) bf16, or both spread, -> (B, T, H, E).

    `edges` (S + 1,) int32 are offsets of documents in the one row there then is, `longest` a bound on their length,
    `window` how many tokens a query sees, 0 for all.
    """
    if edges is None:
        return Flash4.apply(q, k, v, None, 0, window)
    # Views, not q[0]: the gradient of an index is a matrix of zeros with a copy in it.
    y = Flash4.apply(q.flatten(0, 1), k.flatten(0, 1), v.flatten(0, 1), edges, longest, window)
    return y.view_as(q)
