"""Document packing (`packed`): one long row of whole-length documents, attention kept inside each.

    segment starts = 0, the places of BOS, and every seq_len tokens inside a longer segment
    cu_seqlens     = starts + [T], padded with T to T/384 entries or that doubled, so that one shape is compiled

One shard after the other from its first BOS; a batch is a span of `tokens` + 1 consecutive tokens and rank r takes
its contiguous part, so the ranks' rows laid side by side are the row of one rank. (The records advance by one
token more a rank and never train on that target.) What is left of a shard when no span fits is dropped.
The last target of a document is the next BOS. Two batches are prepared ahead by a thread.
Source: PR #1530 (2026-04-10) to #1855; training catalogue 2.4. Effect: part of the variable-length step of #1530, not
isolated. Cost: attention over documents is cheaper than over full rows. Pitfalls: no shuffling at all, so a
batch holds neighbours of the file; documents are cut where ranks and spans meet; evaluation must isolate documents
as training does. `shuffle_shards` and `block` mend the order (lever 12 there, estimated at -0.0003 to -0.001,
nobody measured it).
"""

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from numpy.random import PCG64, Generator, SeedSequence
from numpy.typing import NDArray

from paramgolf.batch import BOS, Batch
from paramgolf.bounds import require_not_negative
from paramgolf.data.slots import LoaderState
from paramgolf.data.stream import MappedShards, Share, require_same_stream, saved_int, too_few_tokens
from paramgolf.errors import DataError, UsageError
from paramgolf.registry import technique
from paramgolf.segments import segment_offsets


@technique("packed", fills="data.loader", source="PR #1530")
@dataclass(frozen=True, kw_only=True)
class Packed:
    """Documents end to end in one row a rank, with their borders."""

    ahead: int = 2
    """Batches prepared in the background; 0: none."""
    shuffle_shards: bool = False
    """Visit the shards in another order each epoch."""
    block: int = 0
    """Draw the batch from blocks of this many tokens in random order within the shard; 0: file order."""

    packed: ClassVar[bool] = True
    resizable: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require_not_negative(self, "ahead", "block")

    def build(
        self, shards: Sequence[Path], *, tokens: int, seq_len: int, rank: int = 0, world: int = 1, seed: int = 0
    ) -> "PackedLoader":
        """The loader of one rank. Raises `UsageError` when ranks or blocks do not divide the batch."""
        share = Share(tokens, seq_len, rank, world)
        if tokens < 1 or tokens % world or (self.block and share.local % self.block):
            raise UsageError(
                f"a batch of {tokens:,} tokens cannot be shared by {world} ranks"
                + (f" in blocks of {self.block:,}" if self.block else ""),
                fix=f"make it a multiple of {world * max(self.block, 1):,}",
            )
        return PackedLoader(self, MappedShards(shards), share, seed)


class Cursor(NamedTuple):
    """Where a batch begins."""

    epoch: int
    place: int
    """How many shards of this epoch were visited."""
    done: int
    """Tokens given of the current shard, counted from its first BOS."""


class PackedLoader:
    """Cuts spans from shards; each batch is a pure function of its cursor."""

    def __init__(self, config: Packed, shards: MappedShards, share: Share, seed: int) -> None:
        self.config = config
        self.shards = shards
        self.share = share
        self.seed = seed
        self.block = config.block or share.local
        self.firsts = np.array([first_document(ids) for ids in shards.maps], dtype=np.int64)
        """(shards,) place of the first BOS of each; the length of the shard when it has none."""
        self.rooms = (shards.lengths - self.firsts - 1).clip(0)
        """(shards,) targets after the first BOS; in whole blocks, where there are blocks."""
        if config.block:
            self.rooms -= self.rooms % config.block
        if (self.firsts == shards.lengths).all():
            raise DataError(
                "the training shards hold no BOS, so documents cannot be found",
                evidence=f"no id {BOS} in {shards.total:,} tokens",
                fix="prepare the data again with BOS before each document (PR #1736)",
            )
        if self.rooms.max() < share.tokens:
            raise too_few_tokens(
                share.tokens + 1, f"the largest of {len(shards.maps)} shards gives {int(self.rooms.max()) + 1:,}"
            )
        self.here = self.settled(Cursor(0, 0, 0))
        """The cursor of the batch that `next` gives."""
        self.ready: deque[Future[Batch]] = deque()
        self.planned = self.here
        """The cursor of the batch that will be prepared next."""
        self.worker = ThreadPoolExecutor(1, thread_name_prefix="packed") if config.ahead else None

    def shard_at(self, cursor: Cursor) -> int:
        """The index of the shard that `cursor` stands in."""
        if not self.config.shuffle_shards:
            return cursor.place
        # 0 and 1 keep the two uses of the seed apart.
        random = Generator(PCG64(SeedSequence([self.seed, 0, cursor.epoch])))
        return int(random.permutation(len(self.shards.maps))[cursor.place])

    def settled(self, cursor: Cursor) -> Cursor:
        """`cursor`, moved on to the next shard until a whole span fits."""
        while True:
            if cursor.place == len(self.shards.maps):
                cursor = Cursor(cursor.epoch + 1, 0, 0)
            if cursor.done + self.share.tokens <= self.rooms[self.shard_at(cursor)]:
                return cursor
            cursor = Cursor(cursor.epoch, cursor.place + 1, 0)

    def after(self, cursor: Cursor) -> Cursor:
        """The cursor of the batch after the one at `cursor`."""
        return self.settled(cursor._replace(done=cursor.done + self.share.tokens))

    def block_starts(self, cursor: Cursor) -> NDArray[np.int64]:
        """Where this rank's blocks begin in the shard, counted from its first BOS."""
        blocks = self.share.local // self.block
        begin = cursor.done + self.share.rank * self.share.local
        if not self.config.block:
            return np.array([begin])
        shard = self.shard_at(cursor)
        random = Generator(PCG64(SeedSequence([self.seed, 1, cursor.epoch, shard])))
        order = random.permutation(int(self.rooms[shard]) // self.block)
        return order[begin // self.block :][:blocks] * self.block

    def prepare(self, cursor: Cursor) -> Batch:
        """This rank's batch at `cursor`."""
        shard = self.shard_at(cursor)
        ids = np.empty((1, self.share.local), np.int32)
        targets = np.empty_like(ids)
        for index, start in enumerate((self.firsts[shard] + self.block_starts(cursor)).tolist()):
            span = self.shards.maps[shard][start : start + self.block + 1]
            row = slice(index * self.block, (index + 1) * self.block)
            ids[0, row], targets[0, row] = span[:-1], span[1:]
        starts = np.concatenate([np.flatnonzero(ids[0] == BOS), np.arange(0, self.share.local, self.block)])
        offsets = segment_offsets(starts, self.share.local, self.share.seq_len)
        return Batch(torch.from_numpy(ids), torch.from_numpy(targets), torch.from_numpy(offsets), self.share.seq_len)

    def next(self) -> Batch:
        """See `Loader.next`."""
        here, self.here = self.here, self.after(self.here)
        if self.worker is None:
            return self.prepare(here)
        while len(self.ready) <= self.config.ahead:
            self.ready.append(self.worker.submit(self.prepare, self.planned))
            self.planned = self.after(self.planned)
        return self.ready.popleft().result()

    def resize(self, seq_len: int) -> None:
        """See `Loader.resize`."""
        if seq_len != self.share.seq_len:
            self.share = self.share._replace(seq_len=seq_len)
            self.planned = self.here  # what was prepared ahead is cut at the old length
            self.ready.clear()

    def identity(self) -> dict[str, Any]:
        """What a saved state must agree with. Row length may change while training runs (PR #2014)."""
        config, same = self.config, {"data": self.shards.fingerprint}
        shuffled = config.shuffle_shards or config.block
        return same | ({"seed": self.seed, "block": config.block, "tokens": self.share.tokens} if shuffled else {})

    def state(self) -> LoaderState:
        """See `Loader.state`."""
        return {**self.identity(), **self.here._asdict()}

    def restore(self, state: LoaderState) -> None:
        """See `Loader.restore`."""
        require_same_stream(state, self.identity())
        here = Cursor(saved_int(state, "epoch"), saved_int(state, "place"), saved_int(state, "done"))
        self.here = self.planned = self.settled(here)
        self.ready.clear()


def first_document(ids: NDArray[np.uint16], *, chunk: int = 1 << 20) -> int:
    """The place of the first BOS; the length of `ids` when there is none."""
    for start in range(0, len(ids), chunk):
        places = np.flatnonzero(ids[start : start + chunk] == BOS)
        if len(places):
            return start + int(places[0])
    return len(ids)
