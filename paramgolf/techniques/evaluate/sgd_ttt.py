"""Score-first test-time training with SGD: each chunk of the stream is scored, then learned from.

    for chunk in consecutive chunks of `chunk` targets:
        score every sliding window whose counted targets begin in the chunk
        `epochs` times: SGD with momentum over the chunk's rows, `rows` at a time

Every target is scored with weights that have learned from earlier, already scored targets alone.
Source: PRs #461, #549; #1413, #1493 with lr 0.005; evaluation catalogue E4.
Effect: −0.0025 bpb (#549), −0.0021 (#1413); about 410 s on 8 H100 at stride 64; more than four epochs gain nothing.
Cost: sliding windows, and `epochs` times the training of as much text.
Pitfalls: neutral or harmful on the stacks of #1019 and #1060 in 25 attempts; attention looks across documents.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from paramgolf.evaluate.adapters import kept_weights
from paramgolf.evaluate.descent import Descent
from paramgolf.evaluate.score import Scored
from paramgolf.evaluate.slots import Bench
from paramgolf.evaluate.stream_training import StreamTraining, train_along
from paramgolf.registry import technique


@technique("sgd_ttt", fills="evaluate.protocol", source="PRs #461 #549 #1413; E4", effect="-0.0025")
@dataclass(frozen=True, kw_only=True)
class SGDTTT(StreamTraining):
    """SGD on all weights, chunk after chunk of the stream."""

    adapts: ClassVar[bool] = True

    def __call__(self, bench: Bench) -> Iterator[Scored]:
        model = bench.adaptable("sgd_ttt")
        with kept_weights(model):
            yield from train_along(bench, self, Descent(bench, model, self))
