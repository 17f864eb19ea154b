"""Shuffled windows (`shuffled`): every window of a rank's shards once, in random order.

Rank r owns the shards r, r + world, r + 2·world, … An epoch draws a random phase below seq_len for each shard and
permutes all its windows. The published loader permutes the windows of each shard and picks the next shard with a
chance proportional to its windows left; that is the same distribution as one permutation over all windows,
which is what is drawn here (and can be resumed from two numbers).
Source: PR #1394 (2026-04-05), used up to #1514 and for GPTQ calibration batches; training catalogue 2.3. Effect: part
of that record's stack, not isolated. Cost: one permutation an epoch (0.1 s for 4 million windows). Pitfalls: needs at
least as many shards as ranks; the order depends on `world`; the last window of a shard is left out when the phase is 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.random import PCG64, Generator, SeedSequence
from numpy.typing import NDArray

from paramgolf.batch import Batch
from paramgolf.data.slots import LoaderState
from paramgolf.data.stream import (
    MappedShards,
    Share,
    require_same_stream,
    saved_int,
    too_few_tokens,
    windows_batch,
)
from paramgolf.errors import DataError
from paramgolf.registry import technique


@technique("shuffled", fills="data.loader", source="PR #1394")
@dataclass(frozen=True, kw_only=True)
class Shuffled:
    """Windows without replacement from the rank's own shards."""

    packed: ClassVar[bool] = False
    resizable: ClassVar[bool] = False

    def build(
        self, shards: Sequence[Path], *, tokens: int, seq_len: int, rank: int = 0, world: int = 1, seed: int = 0
    ) -> "ShuffledLoader":
        """The loader of one rank. Raises `DataError` with fewer shards than ranks."""
        if len(shards) < world:
            raise DataError(
                "shuffled windows need a shard for each rank",
                evidence=f"{len(shards)} shards, {world} ranks",
                fix="--set data.loader=coprime, or prepare smaller shards",
            )
        share = Share(tokens, seq_len, rank, world).require_rows()
        return ShuffledLoader(MappedShards(shards), share, seed)


class ShuffledLoader:
    """Walks a permutation of the rank's windows, a new one each epoch."""

    def __init__(self, shards: MappedShards, share: Share, seed: int) -> None:
        self.shards = shards
        self.share = share
        self.seed = seed
        self.own = np.arange(share.rank, len(shards.maps), share.world)
        """Indices of this rank's shards."""
        # The same number for every phase, so that an epoch has the same length each time: phase < seq_len.
        self.blocks = (shards.lengths[self.own] - share.seq_len) // share.seq_len
        self.blocks = self.blocks.clip(0)
        self.epoch_windows = int(self.blocks.sum())
        self.rows = share.local // share.seq_len
        if self.epoch_windows < self.rows:
            raise too_few_tokens(
                share.local + share.seq_len,
                f"the shards of rank {share.rank} hold {int(shards.lengths[self.own].sum()):,}",
            )
        self.given = 0
        """Rows given so far; the same on every rank."""
        self.epoch = -1
        self.order: NDArray[np.int64] = np.empty((0, 2), np.int64)
        """(windows of an epoch, 2) shard and start, in the order of the current epoch."""

    def shuffle(self, epoch: int) -> None:
        """Draw the order of `epoch`, which depends on nothing but its number, the seed and the rank."""
        random = Generator(PCG64(SeedSequence([self.seed, self.share.rank, epoch])))
        phases = random.integers(self.share.seq_len, size=len(self.own))
        first = np.cumsum(self.blocks) - self.blocks
        within = np.arange(self.epoch_windows) - np.repeat(first, self.blocks)
        starts = np.repeat(phases, self.blocks) + within * self.share.seq_len
        order = np.stack([np.repeat(self.own, self.blocks), starts], axis=1)
        self.order, self.epoch = order[random.permutation(self.epoch_windows)], epoch

    def next(self) -> Batch:
        """See `Loader.next`."""
        taken, left = [], self.rows
        while left:
            epoch, place = divmod(self.given, self.epoch_windows)
            if epoch != self.epoch:
                self.shuffle(epoch)
            part = self.order[place : place + left]
            taken.append(part)
            self.given += len(part)
            left -= len(part)
        return windows_batch(self.shards.maps, np.concatenate(taken), self.share.seq_len)

    def identity(self) -> dict[str, Any]:
        """What a saved state must agree with."""
        share = self.share
        return {"data": self.shards.fingerprint, "seq_len": share.seq_len, "world": share.world, "seed": self.seed}

    def resize(self, seq_len: int) -> None:
        """See `Loader.resize`."""
        assert seq_len == self.share.seq_len, "windows of another length are another walk; Run refuses it"

    def state(self) -> LoaderState:
        """See `Loader.state`."""
        return {**self.identity(), "given": self.given}

    def restore(self, state: LoaderState) -> None:
        """See `Loader.restore`."""
        require_same_stream(state, self.identity())
        self.given = saved_int(state, "given")
