"""Cost and gradient of a row of softcapped logits in one pass over memory."""

import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def bounded_share(raw, cap):
    """tanh(raw / cap) through exp(-2|u|), which cannot overflow."""
    small = tl.exp(tl.abs(raw) * (-2.0 / cap))
    size = (1.0 - small) / (1.0 + small)
    return tl.where(raw < 0, -size, size)


@triton.jit
def softcapped_row(logits, targets, nats, vocab, cap, KEEP: tl.constexpr, WIDTH: tl.constexpr):
    """One row: its cost, and where KEEP its logits overwritten with the cost's gradient."""
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, WIDTH)
    inside = column < vocab
    place = logits + row * vocab + column
    target = tl.load(targets + row)
    of_target = cap * bounded_share(tl.load(logits + row * vocab + target).to(tl.float32), cap)
    bound = bounded_share(tl.load(place, mask=inside, other=0.0).to(tl.float32), cap)
    # A bound of at most 60 keeps every exponential and their sum inside fp32: no largest one to look for first.
    share = tl.where(inside, tl.exp(cap * bound), 0.0)
    total = tl.sum(share, axis=0)
    tl.store(nats + row, tl.log(total) - of_target)
    if KEEP:
        share *= 1.0 / total
        gradient = tl.where(column == target, share - 1.0, share) * (1.0 - bound * bound)
        tl.store(place, gradient.to(logits.dtype.element_ty), mask=inside)


def run_softcapped_rows(logits: Tensor, targets: Tensor, nats: Tensor, cap: float, *, keep: bool) -> None:
    """Fill `nats` (N,) fp32 from `logits` (N, V) and `targets` (N,); `keep`: turn the logits into their gradient."""
    rows, vocab = logits.shape
    width = triton.next_power_of_2(vocab)
    softcapped_row[(rows,)](
        logits, targets, nats, vocab, cap, KEEP=keep, WIDTH=width, num_warps=max(1, min(16, width // 512))
    )
