"""Learning along the stream: a chunk is scored in sliding windows, then trained on, then comes the next."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from paramgolf.bounds import require_not_negative, require_positive, require_shares
from paramgolf.evaluate.descent import Descent, Known, shared_rows
from paramgolf.evaluate.documents import Spans, document_pieces
from paramgolf.evaluate.pace import EvaluationPace
from paramgolf.evaluate.score import Scored
from paramgolf.evaluate.slots import Bench
from paramgolf.evaluate.windows import first_fresh, score_windows, window_starts


@dataclass(frozen=True, kw_only=True)
class StreamTraining:
    """How windows slide, and how weights learn from each chunk."""

    stride: int = 64
    """Targets a window counts, but for the first."""
    length: int = 0
    """Most tokens of a window and of a row that is learned from; 0: the model's context."""
    chunk: int = 32_768
    """Targets scored before they are learned from."""
    epochs: int = 3
    """How often a chunk is learned from."""
    rows: int = 32
    """Rows of a step, over all ranks."""
    lr: float = 0.002
    """Of SGD at the first chunk; falls over the chunks as a cosine."""
    momentum: float = 0.9
    clip: float = 1.0
    """Norm that the gradient is cut to; 0: none."""

    def __post_init__(self) -> None:
        require_positive(self, "stride", "chunk", "rows")
        require_not_negative(self, "length", "epochs", "lr", "clip")
        require_shares(self, "momentum")


def train_along(bench: Bench, config: StreamTraining, descent: Descent) -> Iterator[Scored]:
    """Score the stream chunk by chunk, learning from each once it is scored, while there is time."""
    targets = len(bench.tokens) - 1
    length = config.length or bench.context
    stride = min(config.stride, length)
    starts = window_starts(targets, length, stride)
    chunk_of = np.minimum(first_fresh(starts, length, stride), targets - 1) // config.chunk
    chunks = -(-targets // config.chunk)
    known = Known(targets)
    pace = EvaluationPace(bench, len(starts) * length // bench.world, length, packed=False)
    for number in range(chunks):
        of_chunk = starts[chunk_of == number]
        for scored in score_windows(bench, length=length, stride=stride, starts=of_chunk):
            known.add(scored)
            yield scored
        pace.unread -= len(of_chunk) * length // bench.world
        first, last = number * config.chunk, min((number + 1) * config.chunk, targets)
        if last == targets or not pace.all_go_on():
            continue
        known.gather(bench.total, first, last)
        pieces = document_pieces(Spans(np.array([first]), np.array([last])), length, length)
        spans = Spans(pieces.starts, pieces.ends)
        for _ in range(config.epochs):
            for row in range(0, len(spans.starts), config.rows):
                mine = shared_rows(spans.select(slice(row, row + config.rows)), bench.rank, bench.world)
                descent.step(known.rows(bench.tokens, mine, length), number / chunks)
