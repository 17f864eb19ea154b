"""Windows over a token stream: which tokens the model sees together, and which of them count."""

from collections.abc import Iterator

import numpy as np
import torch

from paramgolf.batch import Batch
from paramgolf.evaluate.score import Scored
from paramgolf.evaluate.slots import Bench


def window_starts(targets: int, length: int, stride: int) -> np.ndarray:
    """Starts of windows of `length` targets, `stride` apart, until all `targets` are covered (E2).

    The first window counts all its targets, each later one only its last `stride`.
    """
    beyond_first = max(0, targets - length)
    return np.arange(1 + -(-beyond_first // stride), dtype=np.int64) * stride


def first_fresh(starts: np.ndarray, length: int, stride: int) -> np.ndarray:
    """The first target that the window from each of `starts` counts."""
    return np.where(starts > 0, starts + length - stride, 0)


def score_windows(bench: Bench, *, length: int, stride: int, starts: np.ndarray | None = None) -> Iterator[Scored]:
    """Score this rank's windows in stream order: all of them, or those from `starts`.

    Rows are padded to `length`, batches to equal shape. Padding follows what counts, so that a causal model never
    sees it.
    """
    targets = len(bench.tokens) - 1
    starts = window_starts(targets, length, stride) if starts is None else starts
    rows = max(1, bench.batch_tokens // length)
    offsets = torch.arange(length)
    for first in range(bench.rank * rows, len(starts), bench.world * rows):
        mine = torch.from_numpy(starts[first : first + rows])
        positions = mine[:, None] + offsets
        fresh = (offsets >= length - stride) | (mine[:, None] == 0)
        counted = fresh & (positions < targets)
        if len(mine) < rows:
            blank = rows - len(mine)
            positions = torch.cat((positions, positions[-1:].expand(blank, -1)))
            counted = torch.cat((counted, torch.zeros(blank, length, dtype=torch.bool)))
        seen = positions.clamp(max=targets - 1)
        batch = Batch(bench.tokens[seen], bench.tokens[seen + 1])
        yield bench.scored(batch, seen, counted)
