"""Where FlashAttention-4's backward kernel for Hopper keeps what it adds up for the queries (version 4.0.0b36).

Each document begins at a multiple of 128 rows (`document_blocks`). Of every 64 rows the sums are as the tensor cores'
fragments hold them: eight channels after eight, in those thread by thread, four numbers each, of two channels of row r
and the same of row r + 8.
"""

import triton
import triton.language as tl


@triton.jit
def load_half_sums(place, E: tl.constexpr, HALF: tl.constexpr, SECOND: tl.constexpr):  # type: ignore[no-untyped-def]
    """A head's sums of the block at `place` as they lie: of each run of 2·HALF channels the first half or the second.

    `HALF` is 8 or more.
    """
    eight = tl.arange(0, E // 16)[:, None]
    chunk = eight // (HALF // 8) * (HALF // 4) + eight % (HALF // 8) + (HALF // 8 if SECOND else 0)
    return tl.load(place + chunk * 512 + tl.arange(0, 512)[None, :])


@triton.jit
def half_sums_in_rows(lain, E: tl.constexpr):  # type: ignore[no-untyped-def]
    """The same (64, E // 2)."""
    apart = tl.reshape(lain, (E // 16, 4, 8, 4, 2, 2))  # eights, 16 rows, rows of 8, pairs, rows 8 on, channels
    return tl.reshape(tl.permute(apart, (1, 4, 2, 0, 3, 5)), (64, E // 2))
