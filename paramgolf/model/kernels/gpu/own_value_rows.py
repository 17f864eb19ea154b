"""Attention's heads without their own value and gated, one pass each way.

Programs of one run of tokens follow one another, so that memory is read in the order in which it lies.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

GROUP_TOKENS = 64
"""Of one program, which does the heads of one group."""


@triton.jit
def own_value_forward(  # noqa: PLR0913
    y, v, logits, out, tokens, stride, sharpness, height,
    H: tl.constexpr, K: tl.constexpr, E: tl.constexpr, TOKENS: tl.constexpr,
):  # fmt: skip
    """A group of heads of a run of tokens."""
    token = (tl.program_id(1) * TOKENS + tl.arange(0, TOKENS))[:, None]
    real, channel = token < tokens, tl.arange(0, E)[None, :]
    group = tl.program_id(0)
    own = tl.load(v + token * stride + group * E + channel, mask=real, other=0.0).to(tl.float32)
    inverse = 1.0 / tl.maximum(tl.sum(own * own, axis=1, keep_dims=True), 1e-8)
    for member in tl.static_range(H // K):
        head = token * H + group * (H // K) + member
        value = tl.load(y + head * E + channel, mask=real, other=0.0).to(tl.float32)
        share = tl.sum(value * own, axis=1, keep_dims=True) * inverse
        gate = height * tl.sigmoid(sharpness * tl.load(logits + head, mask=real, other=0.0).to(tl.float32))
        tl.store(out + head * E + channel, ((value - own * share) * gate).to(out.dtype.element_ty), mask=real)


@triton.jit
def own_value_backward(  # noqa: PLR0913
    y, v, logits, gradient, dy, dv, dlogits, tokens, stride, sharpness, height,
    H: tl.constexpr, K: tl.constexpr, E: tl.constexpr, TOKENS: tl.constexpr,
):  # fmt: skip
    """A group of heads of a run of tokens."""
    token = (tl.program_id(1) * TOKENS + tl.arange(0, TOKENS))[:, None]
    real, channel = token < tokens, tl.arange(0, E)[None, :]
    group = tl.program_id(0)
    own = tl.load(v + token * stride + group * E + channel, mask=real, other=0.0).to(tl.float32)
    inverse = 1.0 / tl.maximum(tl.sum(own * own, axis=1, keep_dims=True), 1e-8)
    of_own = tl.zeros((TOKENS, E), dtype=tl.float32)
    for member in tl.static_range(H // K):
        head = token * H + group * (H // K) + member
        value = tl.load(y + head * E + channel, mask=real, other=0.0).to(tl.float32)
        given = tl.load(gradient + head * E + channel, mask=real, other=0.0).to(tl.float32)
        opened = tl.sigmoid(sharpness * tl.load(logits + head, mask=real, other=0.0).to(tl.float32))
        share = tl.sum(value * own, axis=1, keep_dims=True) * inverse
        kept = value - own * share
        slope = (height * sharpness) * opened * (1.0 - opened)
        of_logit = tl.sum(given * kept, axis=1, keep_dims=True) * slope
        tl.store(dlogits + head, of_logit.to(dlogits.dtype.element_ty), mask=real)
        given *= height * opened
        along = tl.sum(given * own, axis=1, keep_dims=True) * inverse
        tl.store(dy + head * E + channel, (given - own * along).to(dy.dtype.element_ty), mask=real)
        of_own -= given * share + along * (kept - own * share)
    tl.store(dv + (token * K + group) * E + channel, of_own.to(dv.dtype.element_ty), mask=real)


def run_own_value_forward(y: Tensor, v: Tensor, logits: Tensor, sharpness: float, height: float) -> Tensor:
    """y (N, H, E), v (N, K, E), logits (N, H) -> like y."""
    (tokens, heads, width), groups, out = y.shape, v.shape[1], torch.empty_like(y)
    assert y.numel() < 2**31, y.shape
    own_value_forward[(groups, triton.cdiv(tokens, GROUP_TOKENS))](
        y, v, logits, out, tokens, v.stride(0), sharpness, height, heads, groups, width, GROUP_TOKENS
    )
    return out


def run_own_value_backward(
    y: Tensor, v: Tensor, logits: Tensor, gradient: Tensor, sharpness: float, height: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of y, v and logits."""
    (tokens, heads, width), groups = y.shape, v.shape[1]
    dy, dv, dlogits = torch.empty_like(y), v.new_empty(v.shape), torch.empty_like(logits)
    own_value_backward[(groups, triton.cdiv(tokens, GROUP_TOKENS))](
        y,
        v,
        logits,
        gradient,
        dy,
        dv,
        dlogits,
        tokens,
        v.stride(0),
        sharpness,
        height,
        heads,
        groups,
        width,
        GROUP_TOKENS,
    )
    return dy, dv, dlogits
