"""Attention's heads without their own value and gated, one pass each way.

Programs of one run of tokens follow one another, so that memory is read in the order in which it lies.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

GROUP_TOKENS = 64
"""Of one program, which does the heads of one group."""
BLOCK_ROWS = 64
"""Padded rows whose sums attention's backward kernel keeps among one another."""
BLOCK_PARTS = 2
"""Programs that a block's rows are shared out to."""


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
def own_value_gradients(value, given, own, inverse, opened, sharpness, height):  # type: ignore[no-untyped-def]
    """Gradients of a gate's logit, of a head's output and of its own value; channels are the last axis."""
    share = tl.sum(value * own, axis=-1, keep_dims=True) * inverse
    kept = value - own * share
    slope = (height * sharpness) * opened * (1.0 - opened)
    of_logit = tl.sum(given * kept, axis=-1, keep_dims=True) * slope
    given *= height * opened
    along = tl.sum(given * own, axis=-1, keep_dims=True) * inverse
    return of_logit, given - own * along, -(given * share + along * (kept - own * share))


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
        of_logit, of_value, part = own_value_gradients(value, given, own, inverse, opened, sharpness, height)
        tl.store(dlogits + head, of_logit.to(dlogits.dtype.element_ty), mask=real)
        tl.store(dy + head * E + channel, of_value.to(dy.dtype.element_ty), mask=real)
        of_own += part
    tl.store(dv + (token * K + group) * E + channel, of_own.to(dv.dtype.element_ty), mask=real)


@triton.jit
def own_value_readied(  # noqa: PLR0913
    y, v, logits, gradient, dy, dv, dlogits, log_sums, blocks, stats, sums, tokens, stride, padded, sharpness, height,
    H: tl.constexpr, K: tl.constexpr, E: tl.constexpr, MEMBERS: tl.constexpr, ROWS: tl.constexpr, PARTS: tl.constexpr,
):  # fmt: skip
    """A group of heads of a part of a block of padded rows: gradients, and what attention's backward kernel is to find.

    All is read before anything is written: no load is moved before a store, which might be to the same place.
    """
    group, part = tl.program_id(0), tl.program_id(1)
    code = tl.load(blocks + part // PARTS)
    begin, used = code // 128 + part % PARTS * ROWS, code % 128 - part % PARTS * ROWS
    row, member = tl.arange(0, ROWS)[:, None, None], tl.arange(0, MEMBERS)[None, :, None]
    channel, mine, head = tl.arange(0, E)[None, None, :], member < H // K, group * (H // K) + member
    stat = stats + head * padded + part * ROWS + row
    if code % 128 == 0:  # attention reads two blocks at once, of which this may be the second
        tl.store(stat, tl.full((ROWS, MEMBERS, 1), 1e30, tl.float32), mask=mine)
        tl.store(stat + H * padded, tl.zeros((ROWS, MEMBERS, 1), tl.float32), mask=mine)
        return
    token, real = begin + row, mine & (row < used)
    one, place = token * H + head, (token * H + head) * E + channel
    own = tl.load(v + token * stride + group * E + channel, mask=real, other=0.0).to(tl.float32)
    value = tl.load(y + place, mask=real, other=0.0).to(tl.float32)
    given = tl.load(gradient + place, mask=real, other=0.0).to(tl.float32)
    opened = tl.sigmoid(sharpness * tl.load(logits + one, mask=real, other=0.0).to(tl.float32))
    log_sum = tl.load(log_sums + head * tokens + token, mask=real, other=1e30) * 1.4426950408889634
    cell = part * ROWS * E + tl.arange(0, ROWS * E)
    for each in tl.static_range(H // K):
        tl.store(sums + (group * (H // K) + each) * padded * E + cell, tl.zeros((ROWS * E,), tl.float32))
    inverse = 1.0 / tl.maximum(tl.sum(own * own, axis=2, keep_dims=True), 1e-8)
    of_logit, of_value, of_own = own_value_gradients(value, given, own, inverse, opened, sharpness, height)
    rounded = of_value.to(dy.dtype.element_ty)
    tl.store(dy + place, rounded, mask=real)
    tl.store(dlogits + one, of_logit.to(dlogits.dtype.element_ty), mask=real)
    tl.store(stat, log_sum, mask=mine)
    tl.store(stat + H * padded, tl.sum(value * rounded.to(tl.float32), axis=2, keep_dims=True), mask=mine)
    line, every = tl.arange(0, ROWS)[:, None], tl.arange(0, E)[None, :]
    whole = tl.sum(of_own, axis=1).to(dv.dtype.element_ty)
    tl.store(dv + ((begin + line) * K + group) * E + every, whole, mask=line < used)


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
    made = torch.empty_like(y), v.new_empty(v.shape), torch.empty_like(logits)
    own_value_backward[(groups, triton.cdiv(tokens, GROUP_TOKENS))](
        y, v, logits, gradient, *made, tokens, v.stride(0), sharpness, height, heads, groups, width, GROUP_TOKENS
    )
    return made


def run_own_value_readied(
    given: tuple[Tensor, Tensor, Tensor, Tensor], log_sums: Tensor, blocks: Tensor, sharpness: float, height: float
) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor, Tensor]:
    """`given` are y, v, logits and the gradient -> those of the first three, statistics (2, H, padded), sums cleared.

    Sums (H, padded · E) are clear in `blocks` (padded / 64, 2) that hold tokens; the others are not read. Rows of the
    statistics that are no token's weigh nothing: what they are given is 2^-∞ of anything finite.
    """
    y, v, logits, _ = given
    (tokens, heads, width), groups, padded = y.shape, v.shape[1], len(blocks) * BLOCK_ROWS
    assert heads * padded * width < 2**31, (heads, padded)
    made = torch.empty_like(y), v.new_empty(v.shape), torch.empty_like(logits)
    stats = torch.empty(2, heads, padded, device=y.device)
    sums = torch.empty(heads, padded * width, device=y.device)
    own_value_readied[(groups, len(blocks) * BLOCK_PARTS)](
        *given, *made, log_sums, blocks, stats, sums, tokens, v.stride(0), padded, sharpness, height,
        heads, groups, width, triton.next_power_of_2(heads // groups), BLOCK_ROWS // BLOCK_PARTS, BLOCK_PARTS,
        num_warps=8,
    )  # fmt: skip
    return made, stats, sums
