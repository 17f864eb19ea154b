"""What repeats in a stream: loops over tokens, compiled by numba, that look only at what stands before each target."""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from paramgolf.batch import BOS

GOLDEN_MULTIPLIER = 0x9E3779B97F4A7C15
"""2⁶⁴ over the golden ratio: Fibonacci hashing."""
LONGEST_MATCH = 63
"""Longer matches are trusted alike."""
PRIOR_HITS, PRIOR_TRIES = 3.4, 4.0
"""What a match is trusted before any of its length has been seen right or wrong."""


class Hints(NamedTuple):
    """For every target the token that followed the same text before, and how often such hints were right."""

    tokens: NDArray[np.int32]
    """(N - 1,), −1: no match."""
    confidence: NDArray[np.float32]


class Followers(NamedTuple):
    """For every target what followed the same text before."""

    tokens: NDArray[np.int32]
    """(N - 1, K), −1: none."""
    counts: NDArray[np.int32]
    """(N - 1, K)."""


@cache
def compiled_loop(loop: Callable[..., None]) -> Any:
    """`loop` as machine code; numba is only imported when something needs it."""
    from numba import njit

    return njit(loop)


def match_hints(tokens: NDArray[np.int64], *, order: int, inside: bool, bits: int = 22) -> Hints:
    """Hints from the longest earlier match of at least `order` tokens, `inside` the document or in the whole stream."""
    targets = len(tokens) - 1
    hints = Hints(np.full(targets, -1, dtype=np.int32), np.zeros(targets, dtype=np.float32))
    table = np.zeros(1 << bits, dtype=np.int64)
    compiled_loop(match_loop)(tokens, order, inside, table, np.uint64(64 - bits), *hints)
    return hints


def match_loop(tokens: Any, order: Any, inside: Any, table: Any, shift: Any, hints: Any, confidence: Any) -> None:
    """Fill `hints` and `confidence`; place i is written before token i + 1 is read."""
    hits = np.full(LONGEST_MATCH + 1, PRIOR_HITS)
    tries = np.full(LONGEST_MATCH + 1, PRIOR_TRIES)
    begin, match, length = 0, 0, 0
    for i in range(len(hints)):
        token = tokens[i]
        if match > 0:
            bucket = min(length, LONGEST_MATCH)
            tries[bucket] += 1.0
            if tokens[match] == token:
                hits[bucket] += 1.0
                match += 1
                length += 1
            else:
                match, length = 0, 0
        if inside and token == BOS:
            begin, match, length = i, 0, 0
            hits[:] = PRIOR_HITS
            tries[:] = PRIOR_TRIES
        if i - begin + 1 >= order:
            code = np.uint64(0)
            for back in range(order):
                code = (code + np.uint64(tokens[i - back]) + np.uint64(1)) * np.uint64(GOLDEN_MULTIPLIER)
            slot = code >> shift
            candidate = table[slot]
            if match == 0 and candidate > begin:
                same = 0
                while (
                    same < 4 * order
                    and candidate - 1 - same >= begin
                    and tokens[candidate - 1 - same] == tokens[i - same]
                ):
                    same += 1
                if same >= order:
                    match, length = candidate, same
            table[slot] = i + 1
        if match > 0:
            hints[i] = tokens[match]
            bucket = min(length, LONGEST_MATCH)
            confidence[i] = hits[bucket] / tries[bucket]


def ngram_followers(tokens: NDArray[np.int64], *, order: int, keep: int, inside: bool, bits: int = 22) -> Followers:
    """What followed the longest text of at most `order` tokens seen before, the `keep` first followers of each."""
    targets = len(tokens) - 1
    found = Followers(np.full((targets, keep), -1, dtype=np.int32), np.zeros((targets, keep), dtype=np.int32))
    checks = np.zeros(1 << bits, dtype=np.uint64)
    begun = np.full(1 << bits, -1, dtype=np.int64)
    seen = np.full((1 << bits, keep), -1, dtype=np.int32)
    counts = np.zeros((1 << bits, keep), dtype=np.int32)
    loop = compiled_loop(follower_loop)
    loop(tokens, order, inside, (checks, begun, seen, counts), np.uint64(64 - bits), *found)
    return found


def follower_loop(tokens: Any, order: Any, inside: Any, tables: Any, shift: Any, found: Any, counted: Any) -> None:
    """Fill `found` and `counted`; what follows place i is put into the tables after place i has been written."""
    checks, begun, seen, counts = tables
    codes = np.zeros(order, dtype=np.uint64)
    begin = 0
    for i in range(len(found)):
        if inside and tokens[i] == BOS:
            begin = i
        code, depth = np.uint64(0), min(order, i - begin + 1)
        for back in range(depth):
            code = (code + np.uint64(tokens[i - back]) + np.uint64(1)) * np.uint64(GOLDEN_MULTIPLIER)
            codes[back] = code
        for back in range(depth - 1, -1, -1):
            slot = codes[back] >> shift
            if checks[slot] == codes[back] and begun[slot] == begin and seen[slot, 0] >= 0:
                found[i] = seen[slot]
                counted[i] = counts[slot]
                break
        following = tokens[i + 1]
        for back in range(depth):
            slot = codes[back] >> shift
            if checks[slot] != codes[back] or begun[slot] != begin:
                checks[slot], begun[slot] = codes[back], begin
                seen[slot] = -1
                counts[slot] = 0
            for place in range(seen.shape[1]):
                if seen[slot, place] == following or seen[slot, place] < 0:
                    seen[slot, place] = following
                    counts[slot, place] += 1
                    break
