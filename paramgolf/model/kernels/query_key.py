"""Queries, keys and values from the wide product: RMS norm, partial rotation and gain in one pass each way.

    q = gain[h] · R(t) · q̂,   k = R(t) · k̂,   x̂ = x / sqrt(mean x² + ε)

Values stay where the product has put them. The backward pass writes the gradient of the wide product whole, so that
nothing is concatenated, and adds inside it what comes back to the values from attention and from what reworks its
output. All in fp32, one rounding at the end. Plain twin: `qk_norm`, `rope` and `qk_gain` one after another.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, library

from paramgolf.model.kernels.flash4 import spread_heads


@library.custom_op("paramgolf::query_key", mutates_args=())
def query_key(wide: Tensor, cos: Tensor, sin: Tensor, gain: Tensor, kv: int, length: int) -> tuple[Tensor, Tensor]:
    """wide (N, (H + 2K)·E), cos and sin (positions, 1, R), gain (H) -> q (N, H, E), k (N, K, E)."""
    from paramgolf.model.kernels.gpu.query_key_rows import run_query_key_forward

    return run_query_key_forward(wide, cos, sin, gain, kv, length)


@query_key.register_fake
def query_key_shapes(
    wide: Tensor, cos: Tensor, sin: Tensor, gain: Tensor, kv: int, length: int
) -> tuple[Tensor, Tensor]:
    """Shapes of the forward pass."""
    tokens, heads = wide.shape[0], gain.shape[0]
    width = wide.shape[1] // (heads + 2 * kv)
    return wide.new_empty(tokens, heads, width), wide.new_empty(tokens, kv, width)


@library.custom_op("paramgolf::query_key_gradient", mutates_args=())
def query_key_gradient(  # noqa: PLR0913
    wide: Tensor, gradients: list[Tensor], cos: Tensor, sin: Tensor, gain: Tensor, kv: int, length: int,
    tapped: bool = True, copies: int = 0,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Gradients of `wide` and `gain` from those of q, k, v and, if it was `tapped`, v once more.

    With `copies` those of k and v are (N, K, copies, E): they are added up.
    """
    from paramgolf.model.kernels.gpu.query_key_rows import run_query_key_backward

    return run_query_key_backward(wide, gradients, cos, sin, gain, kv, length, tapped, copies)


@query_key_gradient.register_fake
def query_key_gradient_shapes(  # noqa: PLR0913
    wide: Tensor, gradients: list[Tensor], cos: Tensor, sin: Tensor, gain: Tensor, kv: int, length: int,
    tapped: bool = True, copies: int = 0,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Shapes of the backward pass."""
    return torch.empty_like(wide), torch.empty_like(gain)


class QueryKey(torch.autograd.Function):
    """The two operators as one differentiable function."""

    @staticmethod
    def forward(  # noqa: PLR0913
        ctx: Any, wide: Tensor, cos: Tensor, sin: Tensor, gain: Tensor, kv: int, length: int, tapped: bool, copies: int
    ) -> Any:
        """Keeps what it was given; `copies` of keys and values there are to be, none where they are not spread."""
        q, k = query_key(wide, cos, sin, gain, kv, length)
        v = wide.unflatten(1, (-1, q.shape[2]))[:, -kv:]
        ctx.save_for_backward(wide, cos, sin, gain)
        ctx.kv, ctx.length, ctx.tapped, ctx.copies = kv, length, tapped, copies
        found = (q, spread_heads(k, copies), spread_heads(v, copies)) if copies else (q, k, v)
        return (*found, v.view_as(v)) if tapped else found

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of the wide product and the gain."""
        wide, cos, sin, gain = ctx.saved_tensors
        whole = [gradient.contiguous() for gradient in gradients]
        dwide, dgain = query_key_gradient(wide, whole, cos, sin, gain, ctx.kv, ctx.length, ctx.tapped, ctx.copies)
        return dwide, None, None, dgain, None, None, None, None


class Projected(NamedTuple):
    """Heads of a row of tokens, (B, T, heads, E)."""

    q: Tensor
    k: Tensor
    """Or spread, (B, T, K, groups, E), as `spread_heads` does; so are the values."""
    v: Tensor
    tap: Tensor
    """The values once more, for what reworks attention's output; apart, because so are their gradients."""


def queries_keys_values(
    wide: Tensor, cos: Tensor, sin: Tensor, gain: Tensor, kv: int, *, tapped: bool = True, spread: bool = False
) -> Projected:
    """wide (B, T, (H + 2K)·E) bf16 on a GPU -> q (B, T, H, E), k and v (B, T, K, E).

    `tapped`: the tap is used; `spread`: keys and values come for each query head, by views.
    """
    rows, length, _ = wide.shape
    copies = len(gain) // kv if spread else 0
    found = QueryKey.apply(wide.flatten(0, 1), cos, sin, gain, kv, length, tapped, copies)
    heads = [tensor.unflatten(0, (rows, length)) for tensor in found]
    return Projected(heads[0], heads[1], heads[2], heads[-1])
