"""Where attention is cut in a row of packed documents."""

import numpy as np
from numpy.typing import NDArray


def segment_offsets(starts: NDArray[np.int64], length: int, longest: int) -> NDArray[np.int32]:
    """Offsets of segments in a row of `length` tokens, none longer than `longest`.

    `starts` are the increasing places where documents start; 0 becomes one. The result ends with `length`,
    repeated until it has length/384 entries (at least 64), or twice as many as often as needed. The records pad
    to multiples of 64, and compile anew whenever a batch holds more documents than any before.
    """
    cuts = segment_starts(starts, length, longest)
    entries = max(64, length // 384)
    while entries <= len(cuts):
        entries *= 2
    return np.concatenate([cuts, np.full(entries - len(cuts), length)]).astype(np.int32)


def segment_starts(starts: NDArray[np.int64], length: int, longest: int) -> NDArray[np.int64]:
    """Increasing places where segments start: 0, `starts`, and every `longest` tokens after each of them."""
    starts = np.union1d([0], starts).astype(np.int64)
    lengths = np.diff(starts, append=length)
    pieces = -(-lengths // longest)
    first = np.cumsum(pieces) - pieces
    within = np.arange(pieces.sum()) - np.repeat(first, pieces)
    return np.repeat(starts, pieces) + within * longest
