"""Reading documents chunk by chunk with adapters that learn from each chunk once it has been scored."""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from paramgolf.batch import Batch
from paramgolf.bounds import require_not_negative, require_positive, require_shares
from paramgolf.evaluate.adapters import EVERY_TARGET, Adapters, AdapterShape, AdapterTarget
from paramgolf.evaluate.chunks import Chunk, ChunkPlan, chunk_count, cut_chunk, rows_for, window_shapes
from paramgolf.evaluate.descent import Known
from paramgolf.evaluate.documents import Pieces
from paramgolf.evaluate.pace import EvaluationPace
from paramgolf.evaluate.readings import Readings, unread_pieces
from paramgolf.evaluate.readout import reworked_nats
from paramgolf.evaluate.score import Scored, score
from paramgolf.evaluate.slots import Bench, LanguageModel, LogitRework


@dataclass(frozen=True, kw_only=True)
class AdapterConfig:
    """Low-rank adapters, one set for every document of a batch, and how they learn (evaluation catalogue E5)."""

    rank: int = 96
    alpha: float = 144.0
    """The output is scaled by alpha / rank."""
    targets: tuple[AdapterTarget, ...] = EVERY_TARGET
    """Where they hang; #1953 and #2014 leave out q and v."""
    lr: float = 1e-4
    """Of AdamW."""
    beta1: float = 0.0
    beta2: float = 0.999
    eps: float = 1e-10
    weight_decay: float = 0.5
    warm: bool = True
    """Whether A is kept from batch to batch and only B starts from zero (PR #1767)."""
    documents: int = 64
    """Documents read side by side."""
    chunk: int = 48
    """Targets scored before each step."""
    short: tuple[str, ...] = ()
    """Chunks of shorter documents, as `256:8`, `2000:24`: of at most 256 targets in chunks of 8, and so on (#2014)."""
    part: int = 0
    """Documents longer than this are read in parts side by side, each looking back across its start but with an
    adapter of its own; 0: documents stay whole. One very long document otherwise takes as long as a whole batch."""
    remember: bool = False
    """Whether keys and values of what was read are kept, as the adapters of then made them, instead of being read again
    for every chunk: each token is computed once, and a chunk learns through its own tokens alone."""
    file_order: bool = False
    """Whether documents are read in the order of the file, so that no score depends on anything after it in the file;
    else longest first, as the records do, which wastes less but is left to right only in the order of reading."""
    shapes: int = 4
    """How many lengths windows come in, each half of the next: what the compiler has to make."""
    dynamic: bool = True
    """On a GPU, one graph for windows of all lengths and any number of rows, instead of a faster one for each."""
    seed: int = 0
    """Of what A starts from."""

    def __post_init__(self) -> None:
        require_positive(self, "rank", "documents", "chunk", "shapes")
        require_not_negative(self, "part", "lr", "eps", "weight_decay")
        require_shares(self, "beta1", "beta2")
        if not self.targets:
            raise ValueError("no targets: adapters that hang nowhere")
        if self.remember and self.part:
            raise ValueError(f"part={self.part} reads a document again; with remember each token is read once")
        if any(size > self.chunk for _, size in self.short_sizes):
            raise ValueError(f"short={self.short} has chunks longer than chunk={self.chunk}")

    @property
    def short_sizes(self) -> list[tuple[int, int]]:
        """Targets of the longest document and chunk, ascending. Raises `ValueError` for what is not of that form."""
        pairs = [word.split(":") for word in self.short]
        if not all(len(pair) == 2 and all(part.isdecimal() and int(part) > 0 for part in pair) for pair in pairs):
            raise ValueError(f"short={self.short} is not of the form 256:8, 2000:24")
        return sorted((int(until), int(size)) for until, size in pairs)

    @property
    def shape(self) -> AdapterShape:
        """What the adapters are made from."""
        return AdapterShape(self.rank, self.alpha, self.targets)

    def plan(self, longest_document: int, longest: int) -> ChunkPlan:
        """How documents of at most `longest_document` targets are cut, for windows of at most `longest` tokens."""
        width = min(self.chunk, longest)
        short = (size for until, size in self.short_sizes if longest_document <= until)
        return ChunkPlan(min(next(short, width), width), width, window_shapes(longest, self.shapes, width))


class RowAdam:
    """AdamW over adapters, whose rows may become fewer while it works."""

    def __init__(self, adapters: Adapters, config: AdapterConfig, device: torch.device) -> None:
        self.adapters = adapters
        self.config = config
        self.fused = device.type == "cuda"
        self.restart(config.documents)

    def restart(self, rows: int) -> None:
        """Forget all moments; work on `rows` rows."""
        self.parameters = self.adapters.take(rows)
        self.optimizer = self.adamw()

    def adamw(self) -> torch.optim.AdamW:
        """torch's AdamW over the present parameters."""
        config = self.config
        betas, decay = (config.beta1, config.beta2), config.weight_decay
        return torch.optim.AdamW(
            self.parameters, lr=config.lr, betas=betas, eps=config.eps, weight_decay=decay, fused=self.fused
        )

    def narrow(self, rows: int) -> None:
        """Go on with the first `rows` rows alone."""
        before, moments = self.parameters, self.optimizer.state
        self.parameters = self.adapters.take(rows)
        self.optimizer = self.adamw()
        for old, new in zip(before, self.parameters, strict=True):
            self.optimizer.state[new] = {
                name: value[:rows] if value.ndim else value for name, value in moments[old].items()
            }

    def learn(self, scored: Scored, weights: Tensor) -> None:
        """One step on the sum of (R, K) `weights` times the costs that `score` has put on record."""
        assert scored.attached is not None, "score kept no graph"
        (scored.attached * weights).sum().backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)


ChunkCosts = Callable[[Batch, Tensor, Tensor, Tensor, list[Tensor]], Tensor]
"""Window, where in it the chunk lies, the chunk's targets, their places, weights of adapters -> (R, K) fp32 nats."""


def chunk_costs(model: LanguageModel, adapters: Adapters, on_logits: Sequence[LogitRework]) -> ChunkCosts:
    """Costs of a chunk alone: the head sees K targets of a window, not all its tokens."""

    def costs(window: Batch, where: Tensor, targets: Tensor, positions: Tensor, weights: list[Tensor]) -> Tensor:
        adapters.use(weights)
        x = model.hidden(window)
        x = x.gather(1, where[:, :, None].expand(-1, -1, x.shape[-1]))
        return reworked_nats(model, x, targets, positions, on_logits)

    return costs


class Reader:
    """Reads batches of documents with adapters: each chunk is scored, then learned from."""

    def __init__(
        self, bench: Bench, adapters: Adapters, config: AdapterConfig, length: int, known: Known | None = None
    ) -> None:
        assert bench.model is not None
        self.known = known
        self.bench = bench
        self.adapters = adapters
        self.config = config
        self.length = length
        self.tokens = bench.tokens.to(bench.device)
        self.costs: ChunkCosts = bench.compiled(
            chunk_costs(bench.model, adapters, bench.on_logits), dynamic=config.dynamic
        )
        self.optimizer = RowAdam(adapters, config, bench.device)

    def read(self, readings: Readings, go_on: Callable[[], bool]) -> Generator[Scored, None, int]:
        """Score one batch chunk by chunk, adapting in between, while `go_on` says so.

        Returns how many targets of every reading, at most, have been scored.
        """
        plan = self.config.plan(int(readings.lengths.max()), self.length)
        rows = self.config.documents
        if not self.config.warm:
            self.adapters.start()
        self.adapters.clear()
        self.optimizer.restart(rows)
        for number in range(chunk_count(readings, plan.size)):
            if not go_on():
                return number * plan.size
            alive = int((readings.lengths > number * plan.size).sum())
            if rows_for(alive, self.config.documents) < rows:
                rows = rows_for(alive, self.config.documents)
                self.optimizer.narrow(rows) if number else self.optimizer.restart(rows)
            chunk = cut_chunk(self.tokens, readings, number, plan, rows)
            scored = self.score(chunk)
            goes_on = bool((readings.lengths > (number + 1) * plan.size).any())
            if goes_on:
                self.optimizer.learn(scored, chunk.weights)
            if self.known is not None:
                self.known.add(scored)
            yield scored
        return int(readings.lengths.max())

    def score(self, chunk: Chunk) -> Scored:
        """Put a chunk on record, with the graph to learn from it."""
        places = chunk.positions.to(self.bench.device, non_blocking=True)
        return score(
            lambda batch: self.costs(chunk.window, chunk.where, batch.targets, places, self.optimizer.parameters),
            chunk.targets,
            chunk.positions,
            chunk.counted,
            attach=True,
        )

    def read_all(self, batches: Sequence[Readings], pace: EvaluationPace) -> Generator[Scored, None, list[Pieces]]:
        """Score this rank's `batches`; returns windows over what is left when time is up."""
        left: list[Pieces] = []
        for batch in batches:
            done = yield from self.read(batch, pace.go_on)
            pace.unread -= int(np.minimum(batch.lengths, done).sum())
            if done < batch.lengths.max():
                left.append(unread_pieces(batch, done, self.length))
        return left
