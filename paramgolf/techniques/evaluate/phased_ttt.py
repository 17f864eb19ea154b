"""Phased test-time training: adapters for each document, and now and then a pass of SGD over all that was scored.

    read documents longest first with adapters; at `prefix · (i + 1) / phases` documents, i = 0, 1, …:
        W ← SGD over all documents scored so far, from the first, in steps of `step_tokens`
        adapters begin anew

Source: PRs #1610 (one phase), #1626 (three), #1736, #1855; evaluation catalogue E6.
Effect: −0.00056 bpb for one phase, −0.0008 more for three. Cost: in #1855 phases ended at 226, 361 and 415 of 509 s.
Pitfalls: the prefix is the longest documents, not the file's first; legal because each was scored before it was
learned from, by a reading that no maintainer has confirmed for this order (rules R3). The learning rate starts again
with each phase, from the weights of the last.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import numpy as np

from paramgolf.bounds import require_not_negative, require_positive, require_shares
from paramgolf.evaluate.adapt import AdapterConfig
from paramgolf.evaluate.adapters import adapted, kept_weights
from paramgolf.evaluate.descent import Descent, Known, shared_rows
from paramgolf.evaluate.documents import Pieces, Spans, document_pieces, document_spans, score_pieces
from paramgolf.evaluate.pace import EvaluationPace
from paramgolf.evaluate.readings import Readings, reading_queue
from paramgolf.evaluate.remember import own_shares, reader_for
from paramgolf.evaluate.score import Scored
from paramgolf.evaluate.slots import Bench
from paramgolf.parts import frozen_weights
from paramgolf.registry import technique


@technique("phased_ttt", fills="evaluate.protocol", source="PRs #1610 #1626 #1855; E6", effect="-0.0014 over lora_ttt")
@dataclass(frozen=True, kw_only=True)
class PhasedTTT:
    """Adapters a document, and the model's weights in phases."""

    adapts: ClassVar[bool] = True

    adapters: AdapterConfig = AdapterConfig()
    """What learns from each document, and how fast."""
    length: int = 0
    """Most tokens of a window; 0: the model's context."""
    phases: int = 3
    """How often the model's own weights learn from what has been scored."""
    prefix: int = 2500
    """Documents read by the end of the last phase; where the split has fewer, all."""
    lr: float = 0.001
    """Of SGD, at the start of a phase; falls as a cosine."""
    momentum: float = 0.9
    """Of SGD."""
    clip: float = 1.0
    """Norm that the gradient is cut to; 0: none."""
    step_tokens: int = 32_768
    """Text of one step, over all ranks."""

    def __post_init__(self) -> None:
        require_positive(self, "phases", "prefix", "step_tokens")
        require_not_negative(self, "length", "lr", "clip")
        require_shares(self, "momentum")

    def __call__(self, bench: Bench) -> Iterator[Scored]:
        model, config = bench.adaptable("phased_ttt"), self.adapters
        length = self.length or bench.context
        queue = reading_queue(document_spans(bench.tokens), config.part, file_order=config.file_order)
        bounds = self.bounds(len(queue.starts))
        phases = [own_shares(config, queue.select(slice(*pair)), bench) for pair in pairwise(bounds)]
        pace = EvaluationPace(bench, sum(int(part.lengths.sum()) for own in phases for part in own), length)
        known = Known(len(bench.tokens) - 1)
        left: list[Pieces] = []
        hung = adapted(model, config.shape, rows=config.documents, device=bench.device, seed=config.seed)
        with kept_weights(model):
            with hung as adapters:
                reader = reader_for(bench, adapters, config, length, known)
                for last, own in zip(bounds[1:], phases, strict=True):
                    with frozen_weights(model):
                        left += yield from reader.read_all(own, pace)
                    if last < len(queue.starts) and pace.all_go_on():
                        known.gather(bench.total)
                        adapters.take_off()
                        self.descend(Descent(bench, model, self), known, queue.select(slice(0, last)), length, pace)
                        adapters.hang()
                        adapters.start()
            for pieces in left:
                yield from score_pieces(bench, pieces, length)

    def bounds(self, readings: int) -> list[int]:
        """Where phases end in the queue, its start and its end among them."""
        prefix = min(self.prefix, readings)
        return sorted({0, readings, *(prefix * (phase + 1) // self.phases for phase in range(self.phases))})

    def descend(self, descent: Descent, known: Known, read: Readings, length: int, pace: EvaluationPace) -> None:
        """One pass of SGD over everything that was read so far, while there is time."""
        bench = descent.bench
        pieces = document_pieces(Spans(read.starts, read.ends), length, length)
        spans = Spans(pieces.starts, pieces.ends)
        rows = max(1, self.step_tokens // length)
        steps = -(-len(spans.starts) // rows)
        for number in range(steps):
            if not pace.all_go_on():
                return
            group = spans.select(slice(number * rows, (number + 1) * rows))
            padding = np.zeros(rows - len(group.starts), dtype=np.int64)
            whole = Spans(np.append(group.starts, padding), np.append(group.ends, padding))
            mine = shared_rows(whole, bench.rank, bench.world)
            descent.step(known.rows(bench.tokens, mine, length), number / steps)
