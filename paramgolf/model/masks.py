"""Attention masks: causal, inside a window, inside a document; dense for short rows, by blocks for long ones."""

from typing import Any

import torch
from torch import Tensor, library

from paramgolf.batch import Batch

BLOCK = 128
"""Rows and columns of a block of a FlexAttention mask, tokens."""


def dense_mask(segments: Tensor, window: int = 0) -> Tensor:
    """(B, T) segment numbers -> (B, 1, T, T) bool, true where a query may look; `window` tokens back, 0: no limit."""
    length = segments.shape[1]
    past = torch.ones(length, length, dtype=torch.bool, device=segments.device).tril()
    if window:
        past = past.triu(1 - window)
    return (past & (segments[:, :, None] == segments[:, None, :]))[:, None]


@library.custom_op("paramgolf::settled", mutates_args=())
def settled(numbers: Tensor) -> Tensor:
    """A copy of `numbers` whose layout in memory is decided.

    The compiler of torch 2.11 leaves that of what it computes itself open too long for a mask of FlexAttention, when
    there are no gradients ("convert FlexibleLayout to FixedLayout first").
    """
    return numbers.clone()


@settled.register_fake
def settled_like(numbers: Tensor) -> Tensor:
    """What `settled` returns, without values."""
    return torch.empty_like(numbers)


def block_mask(batch: Batch, window: int = 0) -> Any:
    """The FlexAttention mask of `batch`: which blocks a query block sees wholly, and which in part.

    Segments are runs of neighbours, so first and last row of a block decide; torch's own `create_block_mask`
    looks at every pair of tokens (9.9 ms at 98,304 tokens on an H200, where this is a few (T/128)² products).
    """
    from torch.nn.attention.flex_attention import BlockMask

    length = batch.ids.shape[1]
    segments, reach = settled(batch.segments()), window or length

    def inside(b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        return (i >= j) & (i - j < reach) & (segments[b, i] == segments[b, j])

    begin = torch.arange(0, length, BLOCK, device=batch.ids.device)
    end = (begin + BLOCK - 1).clamp(max=length - 1)
    first, last = segments[:, begin], segments[:, end]
    earlier, same = begin[:, None] > begin, begin[:, None] == begin
    some = same | (earlier & (first[:, :, None] == last[:, None, :]) & (begin[:, None] - end < reach))
    whole = earlier & (last[:, :, None] == first[:, None, :]) & (end[:, None] - begin < reach)
    # A block that the row's end cuts short is never whole: the kernel cuts off the rest of it by the mask.
    whole &= (end - begin == BLOCK - 1)[:, None]
    partial, full = listed(some & ~whole), listed(whole)
    return BlockMask.from_kv_blocks(
        partial[0][:, None],
        partial[1][:, None],
        full[0][:, None],
        full[1][:, None],
        BLOCK_SIZE=BLOCK,
        mask_mod=inside,
        seq_lengths=(length, length),
    )


def listed(blocks: Tensor) -> tuple[Tensor, Tensor]:
    """(B, Q, K) bool -> how many key blocks each query block has, (B, Q) int32, and which first, (B, Q, K) int32."""
    order = blocks.to(torch.int8).argsort(dim=-1, descending=True, stable=True)
    return blocks.sum(-1, dtype=torch.int32), order.to(torch.int32)
