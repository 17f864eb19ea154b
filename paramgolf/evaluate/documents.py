"""Scoring document by document: attention stays inside each, as packed training sees it."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from paramgolf.batch import BOS, Batch
from paramgolf.bounds import require_not_negative
from paramgolf.evaluate.score import Scored
from paramgolf.evaluate.slots import Bench
from paramgolf.registry import technique
from paramgolf.segments import segment_offsets


class Spans(NamedTuple):
    """Stretches of targets in the stream: targets `starts[i]` to `ends[i]`, the end excluded."""

    starts: NDArray[np.int64]
    ends: NDArray[np.int64]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Targets of each."""
        return self.ends - self.starts

    def select(self, which: NDArray[Any] | slice) -> "Spans":
        """Some of them, in the order of `which`."""
        return Spans(self.starts[which], self.ends[which])


class Pieces(NamedTuple):
    """What the model sees at once: targets `starts[i]` to `ends[i]`, of which those from `fresh[i]` on count."""

    starts: NDArray[np.int64]
    fresh: NDArray[np.int64]
    ends: NDArray[np.int64]

    def select(self, which: NDArray[Any] | slice) -> "Pieces":
        """Some of them, in order."""
        return Pieces(self.starts[which], self.fresh[which], self.ends[which])


@technique("documents", fills="evaluate.protocol", source="PR #1530; evaluation catalogue E3", effect="-0.011 (1,024)")
@dataclass(frozen=True, kw_only=True)
class Documents:
    """Each document by itself, in windows of `length` tokens; whole windows are packed into rows.

    A document's last target is the BOS of the next one (E3). Isolation gained 0.011 bpb at 1,024 tokens
    (2026-03-17); a model trained on packed documents has to be scored so.
    """

    length: int = 0
    """Most tokens of a window; 0: the model's context."""
    stride: int = 0
    """Targets that a document's later windows count, their last ones; 0: windows side by side (#2014: 1,536 of
    3,072)."""

    def __post_init__(self) -> None:
        require_not_negative(self, "length", "stride")

    def __call__(self, bench: Bench) -> Iterator[Scored]:
        longest = self.length or bench.context
        stride = min(self.stride or longest, longest)
        pieces = document_pieces(document_spans(bench.tokens), longest, stride)
        return score_pieces(bench, pieces, longest, bench.rank, bench.world)


def document_spans(tokens: Tensor) -> Spans:
    """The documents of an (N,) stream, each from its BOS to and including the next; text before the first is one."""
    targets = len(tokens) - 1
    starts = np.union1d([0], np.flatnonzero(tokens[:-1].numpy() == BOS)).astype(np.int64)
    return Spans(starts, np.append(starts[1:], targets))


def document_pieces(spans: Spans, longest: int, stride: int) -> Pieces:
    """Windows of `longest` targets inside each span, `stride` apart; after the first, the last `stride` count."""
    number = 1 + -(-np.maximum(spans.lengths - longest, 0) // stride)
    first = np.cumsum(number) - number
    within = np.arange(number.sum()) - np.repeat(first, number)
    starts = np.repeat(spans.starts, number) + within * stride
    ends = np.minimum(starts + longest, np.repeat(spans.ends, number))
    return Pieces(starts, np.where(within > 0, starts + longest - stride, starts), ends)


def score_pieces(bench: Bench, pieces: Pieces, longest: int, rank: int = 0, world: int = 1) -> Iterator[Scored]:
    """Score every `world`-th row of `pieces`, none longer than `longest` tokens, from row `rank` on.

    Pieces are packed, but for those that begin inside a document and do not follow on the piece before them: these
    have rows of their own, since what shifts along a row (SmearGate) would find the wrong token before their first.
    """
    follows = np.append(True, pieces.starts[1:] == pieces.ends[:-1])[: len(pieces.starts)]
    packed = follows | (bench.tokens.numpy()[pieces.starts] == BOS)
    yield from score_packed(bench, pieces.select(packed), longest, rank, world)
    yield from score_apart(bench, pieces.select(~packed), longest, rank, world)


def score_packed(bench: Bench, pieces: Pieces, longest: int, rank: int, world: int) -> Iterator[Scored]:
    """Score pieces packed into rows, attention kept inside each."""
    if not len(pieces.starts):
        return
    targets = len(bench.tokens) - 1
    row = max(min(bench.batch_tokens, bench.longest_row or bench.batch_tokens), longest)
    edges = np.append(0, np.cumsum(pieces.ends - pieces.starts))
    for low, high in list(pairwise(row_starts(edges, row)))[rank::world]:
        first, last = np.searchsorted(edges, (low, high))
        inside = edges[first:last] - low
        lengths = np.diff(np.append(inside, high - low))
        places = np.arange(high - low) + np.repeat(pieces.starts[first:last] - inside, lengths)
        positions = np.full((1, row), targets, dtype=np.int64)
        counted = np.zeros((1, row), dtype=bool)
        positions[0, : high - low] = places
        counted[0, : high - low] = places >= np.repeat(pieces.fresh[first:last], lengths)
        # What pads the row, so that every row has one shape, is cut off as a segment of its own.
        padding = [high - low] if high - low < row else []
        cuts = segment_offsets(np.append(inside, padding).astype(np.int64), row, longest)
        where = torch.from_numpy(positions)
        seen = where.clamp(max=targets - 1)
        batch = Batch(bench.tokens[seen], bench.tokens[seen + 1], torch.from_numpy(cuts), longest)
        yield bench.scored(batch, seen, torch.from_numpy(counted))


def score_apart(bench: Bench, pieces: Pieces, longest: int, rank: int, world: int) -> Iterator[Scored]:
    """Score pieces in rows of their own, of `longest` tokens; padding follows what counts."""
    rows = max(1, bench.batch_tokens // longest)
    for first in range(rank * rows, len(pieces.starts), world * rows):
        starts, fresh, ends = (
            torch.from_numpy(np.append(part, np.zeros(rows - len(part), dtype=np.int64)))[:, None]
            for part in pieces.select(slice(first, first + rows))
        )
        positions = starts + torch.arange(longest)
        counted = (positions >= fresh) & (positions < ends)
        seen = positions.clamp(max=len(bench.tokens) - 2)
        yield bench.scored(Batch(bench.tokens[seen], bench.tokens[seen + 1]), seen, counted)


def row_starts(edges: NDArray[np.int64], row: int) -> list[int]:
    """Edges of segments, the end included -> where rows of at most `row` tokens begin, and the end."""
    firsts = [0]
    while firsts[-1] < edges[-1]:
        firsts.append(int(edges[np.searchsorted(edges, firsts[-1] + row, side="right") - 1]))
    return firsts
