"""Scoring document by document: attention stays inside each, as packed training sees it."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch

from paramgolf.batch import BOS, Batch
from paramgolf.evaluate.score import Scored, score
from paramgolf.evaluate.slots import Bench
from paramgolf.registry import technique
from paramgolf.segments import segment_offsets, segment_starts


@technique("documents", fills="evaluate.protocol", source="PR #1530; evaluation catalogue E3", effect="-0.011 (1,024)")
@dataclass(frozen=True, kw_only=True)
class Documents:
    """Each document by itself, cut every `length` tokens; whole segments are packed into rows.

    A document's last target is the BOS of the next one (E3). Isolation gained 0.011 bpb at 1,024 tokens
    (2026-03-17); a model trained on packed documents has to be scored so.
    """

    length: int = 0
    """Most tokens of a segment; 0: the model's context."""

    def __call__(self, bench: Bench) -> Iterator[Scored]:
        targets = len(bench.tokens) - 1
        longest = self.length or bench.context
        row = max(bench.batch_tokens, longest)
        documents = np.flatnonzero(bench.tokens[:-1].numpy() == BOS)
        starts = segment_starts(documents, targets, longest)
        firsts = row_starts(np.append(starts, targets), row)
        offsets = torch.arange(row)
        for first, last in list(pairwise(firsts))[bench.rank :: bench.world]:
            positions = (first + offsets)[None]
            counted = positions < last
            seen = positions.clamp(max=targets - 1)
            inside = starts[(starts >= first) & (starts < last)] - first
            # What pads the row, so that every row has one shape, is cut off as a segment of its own.
            padding = [last - first] if last - first < row else []
            edges = segment_offsets(np.append(inside, padding).astype(np.int64), row, longest)
            batch = Batch(bench.tokens[seen], bench.tokens[seen + 1], torch.from_numpy(edges), longest)
            yield score(bench.forward, batch.to(bench.device), positions, counted)


def row_starts(edges: np.ndarray, row: int) -> list[int]:
    """Edges of segments, the end included -> where rows of at most `row` tokens begin, and the end."""
    firsts = [0]
    while firsts[-1] < edges[-1]:
        firsts.append(int(edges[np.searchsorted(edges, firsts[-1] + row, side="right") - 1]))
    return firsts
