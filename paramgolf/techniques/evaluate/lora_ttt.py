"""LoRA test-time training: every document is read with low-rank adapters that learn from it as it goes.

    chunk c of a document is scored with adapters that have seen chunks 0..c-1, then
    B, A ← AdamW step on the mean cost of chunk c              y = W x + (α / r) B A x

Documents of like length are read side by side, each with adapters of its own at every place where a layer runs. The
window of a chunk ends with it and reaches back `length` tokens. B starts from zero for each document; A is kept from
batch to batch (warm start). A document's last chunk is scored and not learned from.
Source: 2026-03-17_LoRA_TTT; PRs #1530, #1767, #1855; short documents and targets #1953, #2014; catalogue E5.
Effect: −0.0127 bpb of all test-time training in #1855 (1.0738 → 1.0611), of which the adapters are nearly all.
Cost: every token is read again for each later chunk of its document, up to `length` / `chunk` times.
Pitfalls: longest documents first is not the order of the file; with a warm start, a document's score depends on what
was read before it. Adapters of the output projection and the feed-forward are beside the module they serve here; the
records' all start from the block's input.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from paramgolf.bounds import require_not_negative
from paramgolf.evaluate.adapt import AdapterConfig
from paramgolf.evaluate.adapters import adapted
from paramgolf.evaluate.documents import document_spans, score_pieces
from paramgolf.evaluate.pace import EvaluationPace
from paramgolf.evaluate.readings import reading_queue
from paramgolf.evaluate.remember import own_shares, reader_for
from paramgolf.evaluate.score import Scored
from paramgolf.evaluate.slots import Bench
from paramgolf.parts import frozen_weights
from paramgolf.registry import technique


@technique("lora_ttt", fills="evaluate.protocol", source="PRs #1530 #1767 #1855; E5", effect="-0.0127 with phases")
@dataclass(frozen=True, kw_only=True)
class LoraTTT:
    """Adapters that learn from each document while it is read."""

    adapts: ClassVar[bool] = True

    adapters: AdapterConfig = AdapterConfig()
    """What learns, and how fast."""
    length: int = 0
    """Most tokens of a window; 0: the model's context."""

    def __post_init__(self) -> None:
        require_not_negative(self, "length")

    def __call__(self, bench: Bench) -> Iterator[Scored]:
        model, config = bench.adaptable("lora_ttt"), self.adapters
        length = self.length or bench.context
        queue = reading_queue(document_spans(bench.tokens), config.part, file_order=config.file_order)
        shares = own_shares(config, queue, bench)
        pace = EvaluationPace(bench, sum(int(share.lengths.sum()) for share in shares), length)
        hung = adapted(model, config.shape, rows=config.documents, device=bench.device, seed=config.seed)
        with frozen_weights(model), hung as adapters:
            left = yield from reader_for(bench, adapters, config, length).read_all(shares, pace)
        for pieces in left:
            yield from score_pieces(bench, pieces, length)
