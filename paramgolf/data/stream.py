"""What loaders share: shards read by position, the share of a rank, the identity of a stream."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from paramgolf.batch import Batch
from paramgolf.data.shards import Ids, open_shard
from paramgolf.data.slots import LoaderState
from paramgolf.errors import DataError, UsageError


class MappedShards:
    """Training shards, memory-mapped, in the given order."""

    def __init__(self, shards: Sequence[Path]) -> None:
        opened = [open_shard(path) for path in shards]
        self.maps: list[Ids] = [shard.map() for shard in opened]
        self.lengths = np.array([shard.tokens for shard in opened], dtype=np.int64)
        """(shards,) tokens in each."""
        self.ends: NDArray[np.int64] = np.cumsum(self.lengths)
        self.total = int(self.lengths.sum())
        identity = "".join(f"{shard.path.name} {shard.tokens}\n" for shard in opened)
        self.fingerprint = hashlib.sha256(identity.encode()).hexdigest()[:12]
        """12 hexadecimal digits of names and lengths: content is not read, folders do not matter."""

    def read(self, start: int, count: int) -> NDArray[np.int32]:
        """(count,) ids from position `start` of the shards laid end to end, wrapping round at the end."""
        out = np.empty(count, np.int32)
        filled = 0
        while filled < count:
            place = (start + filled) % self.total
            index = int(np.searchsorted(self.ends, place, side="right"))
            offset = place - int(self.ends[index] - self.lengths[index])
            part = self.maps[index][offset : offset + count - filled]
            out[filled : filled + len(part)] = part
            filled += len(part)
        return out

    def require(self, needed: int) -> None:
        """Raise `DataError` when there are fewer than `needed` tokens in all."""
        if self.total < needed:
            raise too_few_tokens(needed, f"{len(self.maps)} shards hold {self.total:,}")


class Share(NamedTuple):
    """How a batch is divided among ranks."""

    tokens: int
    """Targets of a batch over all ranks."""
    seq_len: int
    rank: int
    world: int

    @property
    def local(self) -> int:
        """Targets of a batch on one rank."""
        return self.tokens // self.world

    @property
    def windows(self) -> int:
        """Rows of a batch over all ranks."""
        return self.tokens // self.seq_len

    def require_rows(self) -> "Share":
        """Itself; `UsageError` unless every rank gets whole rows."""
        if self.seq_len < 1 or self.tokens < 1 or self.tokens % (self.world * self.seq_len):
            raise UsageError(
                f"a batch of {self.tokens:,} tokens cannot be shared by {self.world} ranks in rows of {self.seq_len:,}",
                fix=f"make it a multiple of {self.world * self.seq_len:,}",
            )
        return self


def too_few_tokens(needed: int, there: str) -> DataError:
    """The error for training data that cannot fill one batch."""
    return DataError(
        "the training data is smaller than one batch",
        evidence=f"{needed:,} tokens are needed, {there}",
        fix="prepare more text, or use smaller batches or shorter rows",
    )


def rows_batch(tokens: NDArray[np.int32], seq_len: int) -> Batch:
    """A batch of rows cut from a stretch of rows * seq_len + 1 consecutive tokens; both tensors share its memory."""
    stretch = torch.from_numpy(tokens)
    return Batch(stretch[:-1].view(-1, seq_len), stretch[1:].view(-1, seq_len))


def windows_batch(maps: Sequence[Ids], windows: NDArray[np.int64], seq_len: int) -> Batch:
    """A batch of one row for each (shard, start) in `windows` (rows, 2)."""
    ids = np.empty((len(windows), seq_len), np.int32)
    targets = np.empty_like(ids)
    for row, (shard, start) in enumerate(windows.tolist()):
        window = maps[shard][start : start + seq_len + 1]
        ids[row], targets[row] = window[:-1], window[1:]
    return Batch(torch.from_numpy(ids), torch.from_numpy(targets))


def require_same_stream(state: LoaderState, expected: dict[str, Any]) -> None:
    """Raise `DataError` unless the `expected` entries stand in `state` as they are."""
    for key, value in expected.items():
        if state.get(key) != value:
            raise DataError(
                f"the saved position in the data belongs to another {key}",
                evidence=f"saved with {key} = {state.get(key)!r}, now {value!r}",
                fix="resume with the settings and data of the run that was saved, or start a new run",
            )


def saved_int(state: LoaderState, key: str) -> int:
    """The whole number under `key`; `DataError` when the state has none."""
    value = state.get(key)
    if not isinstance(value, int):
        raise DataError(
            "the saved position in the data is damaged", evidence=f"{key} = {value!r}", fix="start a new run"
        )
    return value


def saved_list(state: LoaderState, key: str) -> list[Any]:
    """The list under `key`; `DataError` when the state has none."""
    value = state.get(key)
    if not isinstance(value, list):
        raise DataError(
            "the saved position in the data is damaged", evidence=f"{key} = {value!r}", fix="start a new run"
        )
    return value
