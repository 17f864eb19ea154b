"""How a strict evaluation stays inside its budget: it stops adapting while the rest can still be scored."""

import math
import time
from collections import deque

import numpy as np
import torch

from paramgolf.batch import Batch
from paramgolf.evaluate.slots import Bench
from paramgolf.segments import segment_offsets

RESERVE_SECONDS = 5.0
"""Kept for what comes after the last target: sums over ranks, the result."""
CAUTION = 1.5
"""How much longer than measured the rest is taken to need: windows overlap, rows are not full."""


class EvaluationPace:
    """Knows what is left to score and how long that takes without adapting. Does nothing unless the bench is strict."""

    def __init__(self, bench: Bench, unread: int, longest: int, *, packed: bool = True) -> None:
        self.bench = bench
        self.unread = unread
        """Targets this rank has still to score."""
        self.strict = bench.left() < math.inf
        self.stopped = False
        self.recent: deque[float] = deque(maxlen=8)
        self.last = time.perf_counter()
        self.seconds_per_target = self.measured(longest, packed) if self.strict else 0.0

    def measured(self, longest: int, packed: bool) -> float:
        """Seconds a target of plain scoring, compiled before it is timed, on made-up text."""
        bench = self.bench
        if packed:
            row = max(min(bench.batch_tokens, bench.longest_row or bench.batch_tokens), longest)
            ids = torch.full((1, row), 2)
            edges = torch.from_numpy(segment_offsets(np.zeros(1, dtype=np.int64), row, longest))
            batch = Batch(ids, ids, edges, longest)
        else:
            ids = torch.full((max(1, bench.batch_tokens // longest), longest), 2)
            batch = Batch(ids, ids)
        places = torch.zeros_like(ids)
        seconds = 0.0
        for _ in range(2):
            began = time.perf_counter()
            bench.scored(batch, places, places == 0).nats.cpu()
            seconds = time.perf_counter() - began
        return seconds / ids.numel()

    def go_on(self) -> bool:
        """Whether there is time for another step of adapting; once there is none, never again."""
        now = time.perf_counter()
        self.recent.append(now - self.last)
        self.last = now
        if self.strict and not self.stopped:
            rest = CAUTION * self.unread * self.seconds_per_target + 2 * max(self.recent) + RESERVE_SECONDS
            self.stopped = self.bench.left() < rest
        return not self.stopped

    def all_go_on(self) -> bool:
        """`go_on` for every rank: if one has no time, none has. All call it at once."""
        mine = self.go_on()
        if self.strict:
            self.stopped = bool(self.bench.total(torch.tensor([float(not mine)])) > 0)
        return not self.stopped
