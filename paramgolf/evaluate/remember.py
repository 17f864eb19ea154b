"""Reading documents chunk by chunk with adapters, each token once: keys and values of what was read are kept.

Every row reads documents of its own, one after the other, so that no row waits for another; the shapes never change.
Shapes: R rows, T tokens that enter the model, K targets of a chunk, P weights of a row's adapters.
"""

from collections.abc import Generator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from paramgolf.batch import Batch
from paramgolf.errors import UsageError
from paramgolf.evaluate.adapt import AdapterConfig, Reader
from paramgolf.evaluate.adapters import Adapters
from paramgolf.evaluate.aged_adam import AgedAdam, FlatAdapters
from paramgolf.evaluate.descent import Known
from paramgolf.evaluate.documents import Pieces
from paramgolf.evaluate.pace import EvaluationPace
from paramgolf.evaluate.past import KeysValues, PastPlan, empty_past, keep, tokens_back
from paramgolf.evaluate.readings import Readings, own_readings, reading_batches, shared_out, unread_pieces
from paramgolf.evaluate.readout import reworked_nats
from paramgolf.evaluate.score import Scored, score
from paramgolf.evaluate.slots import Bench

OVERLAP = 16
"""Tokens before a chunk that enter the model again, for what looks a few tokens back beside attention."""


class Turn(NamedTuple):
    """What every row reads next, (R,) int64 each, places being those of targets in the stream."""

    starts: np.ndarray
    """Of the row's document."""
    first: np.ndarray
    after: np.ndarray
    """The chunk: from `first` to `after`, which are equal in a row that has nothing to read."""
    more: np.ndarray
    """1 where the document goes on after the chunk."""
    new: np.ndarray
    """1 where the document is a new one for the row."""


class Desk:
    """Which row reads which document, and how far it has come."""

    def __init__(self, readings: Readings, rows: int, config: AdapterConfig) -> None:
        self.readings = readings
        self.config = config
        self.next = 0
        """The first document that nobody has taken."""
        self.starts, self.place, self.ends = (np.zeros(rows, dtype=np.int64) for _ in range(3))

    def turn(self) -> Turn | None:
        """The next chunk of every row, rows that are done taking the next document; None when all has been read."""
        free = np.flatnonzero(self.place >= self.ends)[: len(self.readings.starts) - self.next]
        taken = slice(self.next, self.next + len(free))
        self.starts[free], self.ends[free] = self.readings.starts[taken], self.readings.ends[taken]
        self.place[free] = self.starts[free]
        self.next += len(free)
        if (self.place >= self.ends).all():
            return None
        new = np.zeros_like(self.starts)
        new[free] = 1
        first = self.place.copy()
        self.place = np.minimum(first + self.sizes(), self.ends)
        return Turn(self.starts.copy(), first, self.place.copy(), (self.place < self.ends).astype(np.int64), new)

    def sizes(self) -> np.ndarray:
        """Targets of a chunk in each row: fewer in short documents."""
        sizes = np.full(len(self.starts), self.config.chunk)
        for until, size in reversed(self.config.short_sizes):
            sizes[self.ends - self.starts <= until] = size
        return sizes

    def unread(self) -> Readings:
        """What is left: the rest of what rows have begun, and what nobody has taken."""
        begun = self.place < self.ends
        rest = self.readings.select(slice(self.next, None))
        return Readings(
            np.append(self.place[begun], rest.starts),
            np.append(self.ends[begun], rest.ends),
            np.append(self.starts[begun], rest.floors),
        )


class RememberingReader:
    """Reads documents with adapters: each chunk is scored, then learned from, and its keys and values are kept."""

    def __init__(
        self, bench: Bench, adapters: Adapters, config: AdapterConfig, length: int, known: Known | None = None
    ) -> None:
        assert bench.model is not None
        self.bench = bench
        self.config = config
        self.known = known
        self.length = length
        self.width = min(config.chunk, length)
        self.tokens = bench.tokens.to(bench.device)
        self.kept = empty_past(bench.model, config.documents, length, bench.device)
        self.adapters = FlatAdapters(adapters)
        self.optimizer = AgedAdam(self.adapters.weights, config, bench)
        self.costs = bench.compiled(self.chunk_costs, dynamic=False)
        self.fresh: Sequence[KeysValues] = ()

    def read_all(self, shares: Sequence[Readings], pace: EvaluationPace) -> Generator[Scored, None, list[Pieces]]:
        """Score what `shares` holds; returns windows over what is left when time is up."""
        for readings in shares:
            desk = Desk(readings, self.config.documents, self.config)
            while (turn := desk.turn()) is not None:
                scored = self.read(turn)
                if self.known is not None:
                    self.known.add(scored)
                pace.unread -= int((turn.after - turn.first).sum())
                yield scored
                if not pace.go_on():
                    return [unread_pieces(desk.unread(), 0, self.length)]
        return []

    def read(self, turn: Turn) -> Scored:
        """Score a chunk of every row, then learn from it."""
        targets = turn.after - turn.first
        positions = np.minimum(turn.first[:, None] + np.arange(self.width), len(self.bench.tokens) - 2)
        counted = np.arange(self.width) < targets[:, None]
        told = torch.from_numpy(np.stack(turn)).to(self.bench.device, non_blocking=True)
        if turn.new.any():
            self.begin(told[4])
        chunk = (told[1][:, None] + torch.arange(self.width, device=told.device)).clamp(max=len(self.tokens) - 2)
        scored = score(
            lambda batch: self.scored_costs(batch, told, chunk),
            Batch(self.tokens[chunk], self.tokens[chunk + 1]),
            torch.from_numpy(positions),
            torch.from_numpy(counted),
            attach=True,
        )
        assert scored.attached is not None
        if turn.more.any():
            weights = counted * (turn.more / np.maximum(targets, 1))[:, None]
            learned = torch.from_numpy(weights.astype(np.float32)).to(told.device, non_blocking=True)
            (scored.attached * learned).sum().backward()
            self.optimizer.learn(told[3])
        keep(self.kept, self.fresh, (chunk - told[0][:, None]) % self.length)
        return scored

    def begin(self, new: Tensor) -> None:
        """Fresh adapters in rows that begin a document."""
        self.adapters.clear(new, warm=self.config.warm)
        self.optimizer.clear(new)

    def scored_costs(self, batch: Batch, told: Tensor, chunk: Tensor) -> Tensor:
        """(R, K) costs of the chunk; what its calls of attention were given is kept aside."""
        ids, places = self.entering(told)
        costs, self.fresh = self.costs(self.adapters.weights, self.kept, ids, places, batch.targets, told, chunk)
        return costs

    def entering(self, told: Tensor) -> tuple[Tensor, Tensor]:
        """(R, T) ids that enter the model, and their places in the stream.

        Not compiled: a graph that holds the stream would be made anew for a stream of another length.
        """
        starts, first, after = told[0], told[1], told[2]
        begin = torch.maximum(starts, first - OVERLAP)
        places = begin[:, None] + torch.arange(self.width + OVERLAP, device=begin.device)
        # Nothing from the end of the chunk on enters, so that even a model that looked ahead would see nothing.
        return self.tokens[places.clamp(max=len(self.tokens) - 2)].masked_fill(places >= after[:, None], 0), places

    def chunk_costs(
        self,
        weights: Tensor,
        kept: Sequence[KeysValues],
        ids: Tensor,
        places: Tensor,
        targets: Tensor,
        told: Tensor,
        chunk: Tensor,
    ) -> tuple[Tensor, list[KeysValues]]:
        """Costs of a chunk, (R, K), and the keys and values of its tokens; `chunk` are their places."""
        model = self.bench.model
        assert model is not None
        starts, first, begin = told[0], told[1], places[:, 0]
        back = tokens_back(begin - starts, first - starts, self.width + OVERLAP, self.length)
        plan = PastPlan(kept, back, places - starts[:, None], [])
        self.adapters.use(weights)
        x = model.hidden(Batch(ids, ids, plan=plan))
        where = (first - begin)[:, None] + torch.arange(self.width, device=begin.device)
        x = x.gather(1, where[:, :, None].expand(-1, -1, x.shape[-1]))
        fresh = [(chosen(k, where), chosen(v, where)) for k, v in plan.fresh]
        return reworked_nats(model, x, targets, chunk, self.bench.on_logits), fresh


def chosen(x: Tensor, where: Tensor) -> Tensor:
    """(R, T, K, E) and (R, K') places -> (R, K', K, E)."""
    return x.gather(1, where[:, :, None, None].expand(-1, -1, *x.shape[2:]))


def own_shares(config: AdapterConfig, readings: Readings, bench: Bench) -> list[Readings]:
    """What this rank reads of `readings`, in portions that `read_all` of the reader takes.

    Raises `UsageError` when a document that is to be remembered has more positions than the model knows.
    """
    if config.remember:
        needed = int(readings.lengths.max()) + config.chunk
        if 0 < bench.longest_row < needed:
            raise UsageError(
                f"a document of {needed - config.chunk} targets cannot be read by positions from its start",
                evidence=f"with chunks of {config.chunk} it needs {needed}, the model has {bench.longest_row}",
                fix=f"--set evaluate.protocol.adapters.remember=false, or --set model.context={needed}",
            )
        return [own_readings(readings, bench.rank, bench.world)]
    return shared_out(reading_batches(readings, config.documents), bench.rank, bench.world)


def reader_for(
    bench: Bench, adapters: Adapters, config: AdapterConfig, length: int, known: Known | None = None
) -> Reader | RememberingReader:
    """Who reads documents as `config` says, in windows of at most `length` tokens."""
    kind = RememberingReader if config.remember else Reader
    return kind(bench, adapters, config, length, known)
