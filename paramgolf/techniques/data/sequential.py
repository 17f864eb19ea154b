"""Sequential stream (`sequential`): the shards in order, end to end, round and round.

    batch b, rank r: tokens [p, p + tokens/world] with p = b·tokens + r·tokens/world, as rows of seq_len

Documents may be cut anywhere and attention crosses their borders. The ranks' shares laid side by side are the
batch of one rank, whatever their number: each share ends with the token that the next begins with.
(The baseline advances by one more token a rank: no token is read twice, and one target a rank is never trained on.)
Source: the baseline, used up to #549 (training catalogue 2.1). Cost: none. Pitfall: neighbours in a batch come from the
same documents; one shard instead of 80 costs about 0.1 bpb (PR #363), because the stream wraps round.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from paramgolf.batch import Batch
from paramgolf.data.slots import LoaderState
from paramgolf.data.stream import MappedShards, Share, require_same_stream, rows_batch, saved_int
from paramgolf.registry import technique


@technique("sequential", fills="data.loader", source="baseline")
@dataclass(frozen=True, kw_only=True)
class Sequential:
    """The token stream in file order."""

    packed: ClassVar[bool] = False
    resizable: ClassVar[bool] = True

    def build(
        self, shards: Sequence[Path], *, tokens: int, seq_len: int, rank: int = 0, world: int = 1, seed: int = 0
    ) -> "SequentialLoader":
        """The loader of one rank; `seed` has no effect."""
        return SequentialLoader(MappedShards(shards), Share(tokens, seq_len, rank, world).require_rows())


class SequentialLoader:
    """Reads one contiguous stretch a batch."""

    def __init__(self, shards: MappedShards, share: Share) -> None:
        shards.require(share.tokens + 1)
        self.shards = shards
        self.share = share
        self.position = 0
        """Where the next batch of all ranks begins, in the shards laid end to end."""

    def next(self) -> Batch:
        """See `Loader.next`."""
        local = self.share.local
        stretch = self.shards.read(self.position + self.share.rank * local, local + 1)
        self.position = (self.position + self.share.tokens) % self.shards.total
        return rows_batch(stretch, self.share.seq_len)

    def resize(self, seq_len: int) -> None:
        """See `Loader.resize`."""
        self.share = self.share._replace(seq_len=seq_len).require_rows()

    def state(self) -> LoaderState:
        """See `Loader.state`."""
        return {"data": self.shards.fingerprint, "position": self.position}

    def restore(self, state: LoaderState) -> None:
        """See `Loader.restore`. Only the data must be the same: a position means the same for any batch."""
        require_same_stream(state, {"data": self.shards.fingerprint})
        self.position = saved_int(state, "position")
