"""Norm, rotation and gain of query and key heads, straight from the wide product, and back into its gradient.

A head's channels are two tiles: of each run of 2·HALF channels the first half and the second. The first run rotates,
the pair's partners lying at the same place of the two tiles; the others are rotated by an angle of zero.
Programs of one run of tokens follow one another, so that memory is read in the order in which it lies.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from paramgolf.model.kernels.gpu.flash4_layout import half_sums_in_rows, load_half_sums

QK_TOKENS = 64
"""Of one program; as many as a block of attention's sums has rows."""


@triton.jit
def query_key_forward(  # noqa: PLR0913
    wide, q, k, cos, sin, gain, tokens, length,
    H: tl.constexpr, K: tl.constexpr, E: tl.constexpr, HALF: tl.constexpr, TOKENS: tl.constexpr,
):  # fmt: skip
    """One head of a run of tokens."""
    head = tl.program_id(0)
    token = (tl.program_id(1) * TOKENS + tl.arange(0, TOKENS))[:, None]
    pair = tl.arange(0, E // 2)[None, :]
    real, turns = token < tokens, (token < tokens) & (pair < HALF)
    channel = pair // HALF * (2 * HALF) + pair % HALF
    place = wide + token * ((H + 2 * K) * E) + head * E + channel
    one = tl.load(place, mask=real, other=0.0).to(tl.float32)
    two = tl.load(place + HALF, mask=real, other=0.0).to(tl.float32)
    turn = (token % length) * HALF + pair
    cosine, sine = tl.load(cos + turn, mask=turns, other=1.0), tl.load(sin + turn, mask=turns, other=0.0)
    scale = tl.rsqrt(tl.sum(one * one + two * two, axis=1, keep_dims=True) / E + 1.1920929e-07)
    if head < H:
        scale *= tl.load(gain + head)
    out = (q if head < H else k) + (token * (H if head < H else K) + (head if head < H else head - H)) * E + channel
    kind = q.dtype.element_ty
    tl.store(out, ((one * cosine + two * sine) * scale).to(kind), mask=real)
    tl.store(out + HALF, ((two * cosine - one * sine) * scale).to(kind), mask=real)


@triton.jit
def query_key_backward(  # noqa: PLR0913
    wide, dq, dk, dv, dtap, cos, sin, gain, blocks, dwide, dgain, tokens, length, padded,
    H: tl.constexpr, K: tl.constexpr, E: tl.constexpr, HALF: tl.constexpr, TOKENS: tl.constexpr, TAPPED: tl.constexpr,
    COPIES: tl.constexpr, SUMS: tl.constexpr,
):  # fmt: skip
    """One head of a run of tokens: gradient of the wide product, and the run's share of the gains' gradient.

    `SUMS`: dq is as attention's backward kernel has added it up, before its scale, and the run a block of its rows.
    """
    head = tl.program_id(0)
    begin, used, row = tl.program_id(1) * TOKENS, TOKENS, tl.arange(0, TOKENS)[:, None]
    if SUMS:
        code = tl.load(blocks + tl.program_id(1))
        begin, used = code // 128, code % 128
        if used == 0:
            if head < H:
                tl.store(dgain + head * tl.num_programs(1) + tl.program_id(1), 0.0)
            return
    token = begin + row
    real = (row < used) & (token < tokens)
    kind = dwide.dtype.element_ty
    line = token * ((H + 2 * K) * E) + head * E
    if head >= H + K:
        every = tl.arange(0, E)[None, :]
        beside = token * K + head - H - K
        own = tl.load(dv + beside * (COPIES * E) + every, mask=real, other=0.0).to(tl.float32)
        for copy in tl.static_range(1, COPIES):
            own += tl.load(dv + (beside * COPIES + copy) * E + every, mask=real, other=0.0).to(tl.float32)
        if TAPPED:
            own += tl.load(dtap + beside * E + every, mask=real, other=0.0).to(tl.float32)
        tl.store(dwide + line + every, own.to(kind), mask=real)
    else:
        pair = tl.arange(0, E // 2)[None, :]
        turns = real & (pair < HALF)
        channel = pair // HALF * (2 * HALF) + pair % HALF
        place = line + channel
        one = tl.load(wide + place, mask=real, other=0.0).to(tl.float32)
        two = tl.load(wide + place + HALF, mask=real, other=0.0).to(tl.float32)
        turn = (token % length) * HALF + pair
        cosine, sine = tl.load(cos + turn, mask=turns, other=1.0), tl.load(sin + turn, mask=turns, other=0.0)
        lift = tl.load(gain + head, mask=head < H, other=1.0)
        if head < H:
            if SUMS:
                sums = dq + (head * padded + tl.program_id(1) * TOKENS) * E
                lain, other = load_half_sums(sums, E, HALF, False), load_half_sums(sums, E, HALF, True)
                first, second = half_sums_in_rows(lain, E) * E**-0.5, half_sums_in_rows(other, E) * E**-0.5
            else:
                asked = dq + (token * H + head) * E + channel
                first = tl.load(asked, mask=real, other=0.0).to(tl.float32)
                second = tl.load(asked + HALF, mask=real, other=0.0).to(tl.float32)
        else:
            given = dk + (token * K + head - H) * (COPIES * E) + channel
            first = tl.load(given, mask=real, other=0.0).to(tl.float32)
            second = tl.load(given + HALF, mask=real, other=0.0).to(tl.float32)
            for copy in tl.static_range(1, COPIES):
                first += tl.load(given + copy * E, mask=real, other=0.0).to(tl.float32)
                second += tl.load(given + copy * E + HALF, mask=real, other=0.0).to(tl.float32)
        of_one, of_two = first * cosine - second * sine, second * cosine + first * sine
        scale = tl.rsqrt(tl.sum(one * one + two * two, axis=1, keep_dims=True) / E + 1.1920929e-07)
        along = tl.sum(of_one * one + of_two * two, axis=1, keep_dims=True) * scale
        if head < H:
            share = dgain + head * tl.num_programs(1) + tl.program_id(1)
            tl.store(share, tl.sum(tl.sum(along, axis=1), axis=0))
        outer = scale * lift
        back = along * scale / E
        tl.store(dwide + place, ((of_one - one * back) * outer).to(kind), mask=real)
        tl.store(dwide + place + HALF, ((of_two - two * back) * outer).to(kind), mask=real)


def run_query_key_forward(
    wide: Tensor, cos: Tensor, sin: Tensor, gain: Tensor, kv: int, length: int
) -> tuple[Tensor, Tensor]:
    """wide (N, (H + 2K)·E) -> q (N, H, E), k (N, K, E)."""
    tokens, heads = len(wide), len(gain)
    assert wide.numel() < 2**31, wide.shape
    assert len(cos) >= length, f"{len(cos)} angles for rows of {length}"
    width = wide.shape[1] // (heads + 2 * kv)
    q, k = (wide.new_empty(tokens, count, width) for count in (heads, kv))
    query_key_forward[(heads + kv, triton.cdiv(tokens, QK_TOKENS))](
        wide, q, k, cos, sin, gain, tokens, length, heads, kv, width, cos.shape[-1], QK_TOKENS, num_warps=8
    )  # fmt: skip
    return q, k


def run_query_key_backward(  # noqa: PLR0913
    wide: Tensor, gradients: list[Tensor], cos: Tensor, sin: Tensor, gain: Tensor, kv: int, length: int,
    tapped: bool = True, copies: int = 0, blocks: Tensor | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Gradients of `wide` and of `gain` (H) fp32; `gradients` are of q, k, v and, if it was `tapped`, v once more.

    Those of k and v are (N, K, copies, E) where there are `copies`. With `blocks` that of q is attention's sums
    (H, padded · E), and at least 16 channels turn.
    """
    tokens, heads = len(wide), len(gain)
    assert wide.numel() < 2**31, wide.shape
    width = wide.shape[1] // (heads + 2 * kv)
    runs = triton.cdiv(tokens, QK_TOKENS) if blocks is None else len(blocks)
    assert blocks is None or cos.shape[-1] >= 8, cos.shape
    dwide, dgain = torch.empty_like(wide), wide.new_empty(heads, runs, dtype=torch.float32)
    query_key_backward[(heads + 2 * kv, runs)](
        wide, gradients[0], gradients[1], gradients[2], gradients[-1], cos, sin, gain, blocks, dwide, dgain,
        tokens, length, runs * QK_TOKENS,
        heads, kv, width, cos.shape[-1], QK_TOKENS, tapped, max(1, copies), blocks is not None, num_warps=8,
    )  # fmt: skip
    return dwide, dgain.sum(1)
