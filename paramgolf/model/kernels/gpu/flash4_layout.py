"""Where FlashAttention-4's backward kernel for Hopper keeps what it adds up for the queries (version 4.0.0b36).

Each document begins at a multiple of `TILE` rows (`document_slots`). Of every 64 rows the sums are as the tensor cores'
fragments hold them: eight channels after eight, in those thread by thread, four numbers each, of two channels of row r
and the same of row r + 8.
"""

import triton
import triton.language as tl


@triton.jit
def fragment_place(slot, channel, E: tl.constexpr):  # type: ignore[no-untyped-def]
    """Where a head's sum for a channel of the row in `slot` lies."""
    row = slot % 64
    of_row = slot // 64 * (64 * E) + row // 16 * 128 + row % 8 * 16 + row // 8 % 2 * 2
    return of_row + channel // 8 * 512 + channel % 8 // 2 * 4 + channel % 2
