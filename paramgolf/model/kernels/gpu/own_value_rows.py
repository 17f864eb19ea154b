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
    y, v, logits, gradient, dy, dv, dlogits, log_sums, slots, stats, sums, tokens, stride, padded, sharpness, height,
    H: tl.constexpr, K: tl.constexpr, E: tl.constexpr, TOKENS: tl.constexpr, READY: tl.constexpr,
):  # fmt: skip
    """A group of heads of a run of tokens; `READY` for attention's backward kernel: statistics, and sums cleared."""
    token = (tl.program_id(1) * TOKENS + tl.arange(0, TOKENS))[:, None]
    real, channel = token < tokens, tl.arange(0, E)[None, :]
    group = tl.program_id(0)
    if READY:
        code = tl.load(slots + token, mask=real, other=0)
        slot, used, nothing = code >> 6, code & 63, tl.zeros((TOKENS, E), dtype=tl.float32)
        # Where a document's end leaves rows of 64 free, those too: sums of all 64 lie among one another.
        copies = tl.max(tl.max(tl.where(used > 0, 63 // tl.maximum(used, 1), 0), axis=1), axis=0)
        for member in tl.static_range(H // K):
            clear = sums + (group * (H // K) + member) * padded * E + channel
            tl.store(clear + slot * E, nothing, mask=real)
            for copy in range(1, copies + 1):
                free = real & (used > 0) & (slot % 64 + copy * used < 64)
                tl.store(clear + (slot + copy * used) * E, nothing, mask=free)
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
        of_value = (given - own * along).to(dy.dtype.element_ty)
        tl.store(dy + head * E + channel, of_value, mask=real)
        if READY:
            place = (group * (H // K) + member) * padded
            log_sum = tl.load(log_sums + (group * (H // K) + member) * tokens + token, mask=real, other=0.0)
            tl.store(stats + place + slot, log_sum * 1.4426950408889634, mask=real)
            inner = tl.sum(value * of_value.to(tl.float32), axis=1, keep_dims=True)
            tl.store(stats + H * padded + place + slot, inner, mask=real)
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
    made = torch.empty_like(y), v.new_empty(v.shape), torch.empty_like(logits)
    launch_own_value_backward((y, v, logits, gradient), made, (None, None, None, None), sharpness, height)
    return made


def run_own_value_readied(
    given: tuple[Tensor, Tensor, Tensor, Tensor], log_sums: Tensor, slots: Tensor, padded: int, sharpness: float,
    height: float,
) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor, Tensor]:  # fmt: skip
    """`given` are y, v, logits and the gradient -> those of the first three, statistics (2, H, padded), sums cleared.

    Rows of the statistics that are no token's weigh nothing: what they are given is 2^-∞ of anything finite.
    """
    y, v, logits, _ = given
    heads, width = y.shape[1:]
    assert heads * padded * width < 2**31, (heads, padded)
    made = torch.empty_like(y), v.new_empty(v.shape), torch.empty_like(logits)
    stats = torch.full((2, heads, padded), 1e30, device=y.device)
    sums = torch.empty(heads, padded * width, device=y.device)
    launch_own_value_backward(given, made, (log_sums, slots, stats, sums), sharpness, height)
    return made, stats, sums


def launch_own_value_backward(
    given: tuple[Tensor, Tensor, Tensor, Tensor],
    made: tuple[Tensor, Tensor, Tensor],
    ready: tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None],
    sharpness: float,
    height: float,
) -> None:
    """Run the kernel; `ready` are log sums, slots, statistics and sums."""
    (tokens, heads, width), (_, groups, _), stats = given[0].shape, given[1].shape, ready[2]
    own_value_backward[(groups, triton.cdiv(tokens, GROUP_TOKENS))](
        *given, *made, *ready, tokens, given[1].stride(0), 0 if stats is None else stats.shape[2], sharpness, height,
        heads, groups, width, GROUP_TOKENS, stats is not None, num_warps=4 if stats is None else 8,
    )  # fmt: skip
