"""Check 9, contamination: validation text in the training shards, by document and by 13-grams of tokens.

    h(i) = Σ_k x[i + k] · m^(13 - k)  mod 2^64,  k = 0..12        (13 consecutive tokens of one document)

A document is found whole when its tokens hash alike; a copy that was edited, cut or joined is found when most of its
13-grams stand in the training data. Memory: some 16 bytes a validation token and a table of 64 MiB, however large the
training data is; each training token costs 13 multiplications and one look into the table.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from paramgolf.batch import BOS
from paramgolf.data.boundaries import document_digests
from paramgolf.data.shards import Ids, Shard, open_shard
from paramgolf.verify.predictor import Ints
from paramgolf.verify.ruling import Reading, Ruling, Verdict, disputed, failed, passed

CONTAMINATION = "validation text not in training shards"
GRAM = 13
"""Tokens of a gram, as is usual for such checks since GPT-3."""
MULTIPLIER = 0x9E3779B97F4A7C15
FILTER_BITS = 29
CHUNK = 1 << 22
COPIED = 0.8
"""Share of a document's 13-grams in the training data from which on it counts as copied."""
FEWEST_GRAMS = 20
"""Shorter documents are judged by their whole hash alone: boilerplate of one line is no leak."""
NATURAL = 0.005
"""Share of the validation text that may stand in the training data by itself, as reprints and templates. A split of
encyclopedias, blogs and mail that was disjoint by hash had 0.24 %: 39 of 3,118 documents, articles made from a form."""

Hashes = NDArray[np.uint64]


class Overlap(NamedTuple):
    """How much of the validation split stands in the training shards."""

    documents: int
    same: int
    """Training documents with the tokens of a validation document."""
    first_same: tuple[int, int] | None
    """Number of the first such training document, and of the validation document, from 0."""
    copied: Ints
    """Validation documents of which at least `COPIED` of the 13-grams are in the training data."""
    copied_share: float
    """Their share of the validation tokens."""
    shares: NDArray[np.float64]
    """(documents,) share of 13-grams found; NaN for documents with fewer than `FEWEST_GRAMS`."""
    grams: int
    found: int


def check_contamination(train: Sequence[Path], val: Sequence[Path]) -> list[Ruling]:
    """Whether validation documents are in the training shards. Reads every shard once, in bounded memory."""
    overlap = measured_overlap([open_shard(path) for path in train], [open_shard(path) for path in val])
    counted = overlap.found / max(overlap.grams, 1)
    evidence = (
        f"{overlap.same:,} training documents have the tokens of a validation document, {len(overlap.copied):,} of "
        f"{overlap.documents:,} validation documents have at least {COPIED:.0%} of their 13-grams in the training "
        f"data, {counted:.2%} of all validation 13-grams are there"
    )
    if overlap.first_same:
        evidence += f"; the first is training document {overlap.first_same[0]:,}, validation {overlap.first_same[1]:,}"
    if len(overlap.copied):
        first = int(overlap.copied[0])
        evidence += f"; validation document {first:,} has {overlap.shares[first]:.0%} of its 13-grams there"
    if not overlap.same and overlap.copied_share <= NATURAL:
        said = "no validation document is in the training shards"
        if len(overlap.copied):
            said += f", and what is alike, {overlap.copied_share:.2%} of the text, is no more than templates make"
        return [passed(CONTAMINATION, said, evidence, "contamination")]
    leaked = max(overlap.same, len(overlap.copied))
    share = max(overlap.same / max(overlap.documents, 1), overlap.copied_share)
    said = f"{leaked:,} validation documents are in the training shards, {share:.2%} of the split"
    if share > NATURAL:
        return [failed(CONTAMINATION, said, evidence, "contamination")]
    readings = (
        Reading("no document at all", Verdict.FAILED, f"{leaked:,} documents"),
        Reading("as the web is", Verdict.PASSED, f"{share:.3%} are reprints or boilerplate, less than {NATURAL:.1%}"),
    )
    return [disputed(CONTAMINATION, said, evidence, ("contamination",), readings)]


def measured_overlap(train: Sequence[Shard], val: Sequence[Shard]) -> Overlap:
    """How much of the documents of `val` stands in `train`."""
    tokens = np.concatenate([shard.map() for shard in val])
    hashes = gram_hashes(tokens)
    inside = within_documents(tokens)
    known = np.unique(hashes[inside])
    hit = np.zeros(len(known), np.bool_)
    table = hash_filter(known)
    for shard in train:
        ids = shard.map()
        for start in range(0, len(ids), CHUNK):
            part = ids[start : start + CHUNK + GRAM - 1]
            some = gram_hashes(part)
            some = some[maybe_known(table, some)]
            places = np.searchsorted(known, some)
            places[places == len(known)] = 0
            hit[places[known[places] == some]] = True
    same, first = same_documents(train, val)
    shares = document_shares(tokens, hashes, inside, known, hit)
    with np.errstate(invalid="ignore"):
        copied = np.flatnonzero(shares >= COPIED)
    found = int(hit[np.searchsorted(known, hashes[inside])].sum()) if len(known) else 0
    lengths = np.bincount(np.cumsum(tokens == BOS), minlength=len(shares) + 1)[1:]
    copied_share = float(lengths[copied].sum()) / max(len(tokens), 1)
    return Overlap(len(shares), same, first, copied, copied_share, shares, int(inside.sum()), found)


def gram_hashes(ids: Ids) -> Hashes:
    """(N - 12,) a hash of every 13 consecutive ids; empty for shorter input."""
    count = len(ids) - GRAM + 1
    if count <= 0:
        return np.zeros(0, np.uint64)
    wide = ids.astype(np.uint64) + np.uint64(1)
    multiplier = np.uint64(MULTIPLIER)
    total = np.zeros(count, np.uint64)
    for offset in range(GRAM):
        total += wide[offset : offset + count]
        total *= multiplier
    # The low bits of a product depend on low bits alone; mix the high ones in.
    total ^= total >> np.uint64(29)
    total *= multiplier
    total ^= total >> np.uint64(32)
    return total


def within_documents(ids: Ids) -> NDArray[np.bool_]:
    """(N - 12,) whether the 13 ids from a place on lie in one document, BOS not among them."""
    count = len(ids) - GRAM + 1
    if count <= 0:
        return np.zeros(0, np.bool_)
    starts = np.concatenate(([0], np.cumsum(ids == BOS, dtype=np.int64)))
    return starts[GRAM:] == starts[:count]


def hash_filter(known: Hashes) -> NDArray[np.uint8]:
    """A table of 2^29 bits in which each of `known` sets two."""
    table = np.zeros(1 << (FILTER_BITS - 3), np.uint8)
    for places in filter_places(known):
        np.bitwise_or.at(table, places >> 3, (np.uint8(1) << (places & 7).astype(np.uint8)))
    return table


def filter_places(hashes: Hashes) -> tuple[Ints, Ints]:
    """The two bits of each hash."""
    low = hashes & np.uint64((1 << FILTER_BITS) - 1)
    high = hashes >> np.uint64(64 - FILTER_BITS)
    return low.astype(np.int64), high.astype(np.int64)


def maybe_known(table: NDArray[np.uint8], hashes: Hashes) -> NDArray[np.bool_]:
    """Whether each hash may be in the table: never wrong when it says no."""
    first, second = filter_places(hashes)
    able = (table[first >> 3] >> (first & 7).astype(np.uint8)) & 1 != 0
    some = np.flatnonzero(able)
    place = second[some]
    able[some] = (table[place >> 3] >> (place & 7).astype(np.uint8)) & 1 != 0
    return able


def same_documents(train: Sequence[Shard], val: Sequence[Shard]) -> tuple[int, tuple[int, int] | None]:
    """How many training documents have the tokens of a validation document, and the numbers of the first."""
    held = {digest: number for number, digest in enumerate(document_digests(val))}
    same, first = 0, None
    for number, digest in enumerate(document_digests(train)):
        if digest in held:
            first = first or (number, held[digest])
            same += 1
    return same, first


def document_shares(
    tokens: Ids, hashes: Hashes, inside: NDArray[np.bool_], known: Hashes, hit: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """By validation document, the share of its 13-grams that were hit; NaN where it has too few."""
    number = np.cumsum(tokens == BOS, dtype=np.int64) - 1
    documents = int(number[-1]) + 1 if len(number) else 0
    owner = number[: len(hashes)][inside]
    owner_ok = owner >= 0
    hits = hit[np.searchsorted(known, hashes[inside])] if len(known) else np.zeros(0, np.bool_)
    total = np.bincount(owner[owner_ok], minlength=documents)
    found = np.bincount(owner[owner_ok], weights=hits[owner_ok], minlength=documents)
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = found / total
    shares[total < FEWEST_GRAMS] = np.nan
    return shares
