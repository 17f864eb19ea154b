"""Norm, rotation and gain of query and key heads, straight from the wide product, and back into its gradient."""

import torch
import triton
import triton.language as tl
from torch import Tensor

QK_TOKENS = 64
"""Of one program."""


@triton.jit
def query_key_forward(  # noqa: PLR0913
    wide, q, k, v, cos, sin, gain, tokens, length,
    H: tl.constexpr, K: tl.constexpr, E: tl.constexpr, HALF: tl.constexpr, TOKENS: tl.constexpr,
):  # fmt: skip
    """One head of a run of tokens. Rotating channels are two narrow tiles, the others a wide one with a gap."""
    head = tl.program_id(1)
    token = (tl.program_id(0) * TOKENS + tl.arange(0, TOKENS))[:, None]
    real, channel, pair = token < tokens, tl.arange(0, E)[None, :], tl.arange(0, HALF)[None, :]
    place = wide + token * ((H + 2 * K) * E) + head * E
    if head >= H + K:
        own = tl.load(place + channel, mask=real, other=0.0)
        tl.store(v + (token * K + head - H - K) * E + channel, own, mask=real)
    else:
        straight = real & (channel >= 2 * HALF)
        rest = tl.load(place + channel, mask=straight, other=0.0).to(tl.float32)
        first = tl.load(place + pair, mask=real, other=0.0).to(tl.float32)
        second = tl.load(place + HALF + pair, mask=real, other=0.0).to(tl.float32)
        turn = (token % length) * HALF + pair
        cosine, sine = tl.load(cos + turn, mask=real, other=0.0), tl.load(sin + turn, mask=real, other=0.0)
        square = tl.sum(first * first + second * second, axis=1, keep_dims=True)
        square += tl.sum(rest * rest, axis=1, keep_dims=True)
        scale = tl.rsqrt(square / E + 1.1920929e-07)
        if head < H:
            scale *= tl.load(gain + head)
            out = q + (token * H + head) * E
        else:
            out = k + (token * K + head - H) * E
        kind = q.dtype.element_ty
        tl.store(out + channel, (rest * scale).to(kind), mask=straight)
        tl.store(out + pair, ((first * cosine + second * sine) * scale).to(kind), mask=real)
        tl.store(out + HALF + pair, ((second * cosine - first * sine) * scale).to(kind), mask=real)


@triton.jit
def query_key_backward(  # noqa: PLR0913
    wide, dq, dk, dv, cos, sin, gain, dwide, dgain, tokens, length,
    H: tl.constexpr, K: tl.constexpr, E: tl.constexpr, HALF: tl.constexpr, TOKENS: tl.constexpr,
):  # fmt: skip
    """One head of a run of tokens: gradient of the wide product, and the run's share of the gains' gradient."""
    head = tl.program_id(1)
    token = (tl.program_id(0) * TOKENS + tl.arange(0, TOKENS))[:, None]
    real, channel, pair = token < tokens, tl.arange(0, E)[None, :], tl.arange(0, HALF)[None, :]
    place = token * ((H + 2 * K) * E) + head * E
    if head >= H + K:
        own = tl.load(dv + (token * K + head - H - K) * E + channel, mask=real, other=0.0)
        tl.store(dwide + place + channel, own, mask=real)
    else:
        given = dq + (token * H + head) * E if head < H else dk + (token * K + head - H) * E
        straight = real & (channel >= 2 * HALF)
        rest = tl.load(wide + place + channel, mask=straight, other=0.0).to(tl.float32)
        first = tl.load(wide + place + pair, mask=real, other=0.0).to(tl.float32)
        second = tl.load(wide + place + HALF + pair, mask=real, other=0.0).to(tl.float32)
        of_rest = tl.load(given + channel, mask=straight, other=0.0).to(tl.float32)
        one = tl.load(given + pair, mask=real, other=0.0).to(tl.float32)
        two = tl.load(given + HALF + pair, mask=real, other=0.0).to(tl.float32)
        turn = (token % length) * HALF + pair
        cosine, sine = tl.load(cos + turn, mask=real, other=0.0), tl.load(sin + turn, mask=real, other=0.0)
        of_first, of_second = one * cosine - two * sine, two * cosine + one * sine
        square = tl.sum(first * first + second * second, axis=1, keep_dims=True)
        square += tl.sum(rest * rest, axis=1, keep_dims=True)
        scale = tl.rsqrt(square / E + 1.1920929e-07)
        along = tl.sum(of_first * first + of_second * second, axis=1, keep_dims=True)
        along = (along + tl.sum(of_rest * rest, axis=1, keep_dims=True)) * scale
        outer = scale
        if head < H:
            tl.store(dgain + tl.program_id(0) * H + head, tl.sum(tl.sum(along, axis=1), axis=0))
            outer = scale * tl.load(gain + head)
        back = along * scale / E
        kind = dwide.dtype.element_ty
        tl.store(dwide + place + channel, ((of_rest - rest * back) * outer).to(kind), mask=straight)
        tl.store(dwide + place + pair, ((of_first - first * back) * outer).to(kind), mask=real)
        tl.store(dwide + place + HALF + pair, ((of_second - second * back) * outer).to(kind), mask=real)


def run_query_key_forward(wide: Tensor, cos: Tensor, sin: Tensor, gain: Tensor, kv: int, length: int) -> list[Tensor]:
    """wide (N, (H + 2K)·E) -> q (N, H, E), k and v (N, K, E)."""
    tokens, heads = len(wide), len(gain)
    assert wide.numel() < 2**31, wide.shape
    width = wide.shape[1] // (heads + 2 * kv)
    q, k, v = (wide.new_empty(tokens, count, width) for count in (heads, kv, kv))
    query_key_forward[(triton.cdiv(tokens, QK_TOKENS), heads + 2 * kv)](
        wide, q, k, v, cos, sin, gain, tokens, length, heads, kv, width, cos.shape[-1], QK_TOKENS
    )  # fmt: skip
    return [q, k, v]


def run_query_key_backward(
    wide: Tensor, gradients: list[Tensor], cos: Tensor, sin: Tensor, gain: Tensor, kv: int, length: int
) -> tuple[Tensor, Tensor]:
    """Gradients of `wide` and of `gain` (H) fp32."""
    tokens, heads = len(wide), len(gain)
    assert wide.numel() < 2**31, wide.shape
    width, blocks = wide.shape[1] // (heads + 2 * kv), triton.cdiv(tokens, QK_TOKENS)
    dwide, dgain = torch.empty_like(wide), wide.new_empty(blocks, heads, dtype=torch.float32)
    query_key_backward[(blocks, heads + 2 * kv)](
        wide, *gradients, cos, sin, gain, dwide, dgain, tokens, length, heads, kv, width, cos.shape[-1], QK_TOKENS
    )  # fmt: skip
    return dwide, dgain.sum(0)
