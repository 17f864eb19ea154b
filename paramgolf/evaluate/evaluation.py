"""One evaluation: run a protocol over a split, tally it, and prove that every target was counted once."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from paramgolf.bounds import require_not_negative, require_positive
from paramgolf.errors import GolfError, OverTime
from paramgolf.evaluate.score import Scored
from paramgolf.evaluate.slots import Bench, EvaluationProtocol, OnLogits
from paramgolf.evaluate.tally import Tally
from paramgolf.evaluate.windows import score_windows
from paramgolf.registry import technique

Progress01 = Callable[[float], None]
"""Told the share of targets scored, 0..1."""

FETCH = 16
"""Scored batches left on the device before the host asks for their costs, so that it need not wait for each."""


@technique("contiguous", fills="evaluate.protocol", source="baseline; evaluation catalogue E1")
@dataclass(frozen=True, kw_only=True)
class Contiguous:
    """Windows side by side: each target is scored in the window it falls in, whatever context it finds there."""

    length: int = 0
    """Targets a window; 0: the model's context."""

    def __post_init__(self) -> None:
        require_not_negative(self, "length")

    def __call__(self, bench: Bench) -> Iterator[Scored]:
        length = self.length or bench.context
        return score_windows(bench, length=length, stride=length)


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """How the final score is taken."""

    protocol: EvaluationProtocol = Contiguous()
    on_logits: tuple[OnLogits, ...] = ()
    """Reworks logits before a target is scored, in order."""
    batch_tokens: int = 65_536
    """Most tokens that one forward pass holds on a device."""
    strict: bool = False
    """Whether everything from opening the artifact to the score, compilation included, has to fit into
    `contest.eval_seconds`: a protocol that adapts stops adapting in time, and the rest is only scored."""

    def __post_init__(self) -> None:
        require_positive(self, "batch_tokens")


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
    record = Record(len(target_bytes))
    for scored in protocol(bench):
        record.add(scored)
        if record.fetched():
            told(min(1.0, record.counted * bench.world / len(target_bytes)))
    record.fetch()
    if record.counted:
        told(min(1.0, record.counted * bench.world / len(target_bytes)))
    nats, counts = reduce(record.nats), reduce(record.counts)
    require_single_coverage(counts)
    if not torch.isfinite(nats).all():
        where = int((~torch.isfinite(nats)).nonzero()[0])
        raise GolfError("the model gives a cost that is not finite", evidence=f"target {where} of {len(nats)}")
    tally = Tally(float(nats.sum()), int(target_bytes.long().sum()), len(nats))
    return Evaluation(tally, time.perf_counter() - began)


class Record:
    """Cost and count of every target, on the host in fp64."""

    def __init__(self, targets: int) -> None:
        self.nats = torch.zeros(targets, dtype=torch.float64)
        self.counts = torch.zeros(targets, dtype=torch.int32)
        self.counted = 0
        self.waiting: list[tuple[Tensor, Tensor, Tensor]] = []

    def add(self, scored: Scored) -> None:
        """Take note of what was scored; its costs may stay on the device for now."""
        self.waiting.append((scored.positions, scored.counted, scored.nats))

    def fetched(self) -> bool:
        """Fetch if enough waits; whether it did."""
        if len(self.waiting) < FETCH:
            return False
        self.fetch()
        return True

    def fetch(self) -> None:
        """Add up what waits."""
        for positions, counted, nats in self.waiting:
            places = positions[counted]
            self.nats.index_add_(0, places, nats.cpu()[counted].double())
            self.counts.index_add_(0, places, torch.ones_like(places, dtype=torch.int32))
            self.counted += len(places)
        self.waiting = []


def require_single_coverage(counts: Tensor) -> None:
    """Raise `GolfError` unless every target was counted exactly once."""
    wrong = (counts != 1).nonzero().flatten()
    if len(wrong):
        place, times = int(wrong[0]), int(counts[wrong[0]])
        raise GolfError(
            f"{len(wrong)} of {len(counts)} targets were not counted exactly once",
            evidence=f"target {place} was counted {times} times",
        )


def require_time(seconds: float, budget: float) -> None:
    """Raise `OverTime` when a strict evaluation took longer than its budget, both in seconds."""
    if seconds > budget:
        raise OverTime(
            f"the evaluation took {seconds:.1f} s, {seconds - budget:.1f} s more than it may",
            evidence=f"evaluate.strict counts everything from opening the artifact on; the budget is {budget:g} s",
            fix="a cheaper evaluate.protocol, or one that compiles fewer shapes",
        )
