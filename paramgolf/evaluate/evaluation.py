"""One evaluation: run a protocol over a split, tally it, and prove that every target was counted once."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from paramgolf.errors import GolfError
from paramgolf.evaluate.score import Scored
from paramgolf.evaluate.slots import Bench, EvaluationProtocol
from paramgolf.evaluate.tally import Tally
from paramgolf.evaluate.windows import score_windows
from paramgolf.registry import technique

Progress01 = Callable[[float], None]
"""Told the share of targets scored, 0..1."""


@technique("contiguous", fills="evaluate.protocol", source="baseline; evaluation catalogue E1")
@dataclass(frozen=True, kw_only=True)
class Contiguous:
    """Windows side by side: each target is scored in the window it falls in, whatever context it finds there."""

    length: int = 0
    """Targets a window; 0: the model's context."""

    def __post_init__(self) -> None:
        if self.length < 0:
            raise ValueError(f"length={self.length} is negative")

    def __call__(self, bench: Bench) -> Iterator[Scored]:
        length = self.length or bench.context
        return score_windows(bench, length=length, stride=length)


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """How the final score is taken."""

    protocol: EvaluationProtocol = Contiguous()
    batch_tokens: int = 65_536
    """Most tokens that one forward pass holds on a device."""


class Evaluation(NamedTuple):
    """The outcome of an evaluation."""

    tally: Tally
    seconds: float


def evaluate(
    protocol: EvaluationProtocol,
    bench: Bench,
    target_bytes: Tensor,
    *,
    reduce: Callable[[Tensor], Tensor] = lambda total: total,
    told: Progress01 = lambda share: None,
) -> Evaluation:
    """Score the split of `bench` under `protocol`.

    `target_bytes` (N - 1,) gives the bytes each target stands for; `reduce` sums a CPU tensor over ranks.
    Sums are fp64. Raises `GolfError` when a target was counted twice or not at all, or a cost is not finite.
    """
    began = time.perf_counter()
    nats = torch.zeros(len(target_bytes), dtype=torch.float64)
    counts = torch.zeros(len(target_bytes), dtype=torch.int32)
    for scored in protocol(bench):
        places = scored.positions[scored.counted]
        nats.index_add_(0, places, scored.nats.cpu()[scored.counted].double())
        counts.index_add_(0, places, torch.ones_like(places, dtype=torch.int32))
        if len(places):
            told(float(places[-1] + 1) / len(target_bytes))
    nats, counts = reduce(nats), reduce(counts)
    require_single_coverage(counts)
    if not torch.isfinite(nats).all():
        where = int((~torch.isfinite(nats)).nonzero()[0])
        raise GolfError("the model gives a cost that is not finite", evidence=f"target {where} of {len(nats)}")
    tally = Tally(float(nats.sum()), int(target_bytes.long().sum()), len(nats))
    return Evaluation(tally, time.perf_counter() - began)


def require_single_coverage(counts: Tensor) -> None:
    """Raise `GolfError` unless every target was counted exactly once."""
    wrong = (counts != 1).nonzero().flatten()
    if len(wrong):
        place, times = int(wrong[0]), int(counts[wrong[0]])
        raise GolfError(
            f"{len(wrong)} of {len(counts)} targets were not counted exactly once",
            evidence=f"target {place} was counted {times} times",
        )
