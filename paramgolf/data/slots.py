"""The slot of the data stage: in which order training sees the tokens.

A filler is a frozen dataclass; `build` opens the shards and gives the loader of one rank. Every batch holds
`tokens` targets over all ranks; the ranks share them without talking to one another.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from paramgolf.batch import Batch

LoaderState = dict[str, int | float | str | list[Any]]
"""Where a loader stands, as JSON can hold it. The same for every rank, so one checkpoint serves them all."""


class Loader(Protocol):
    """One rank's endless stream of batches."""

    def next(self) -> Batch:
        """This rank's share of the next batch: (B, seq_len) int32 on the CPU, or (1, T) with `cu_seqlens`."""
        ...

    def resize(self, seq_len: int) -> None:
        """Rows of `seq_len` tokens, or documents cut at it, from the next batch on; tokens stay where they were.

        Asked with another length only of a `LoaderMaker` that is `resizable`.
        """
        ...

    def state(self) -> LoaderState:
        """Where the stream stands after the batches given so far."""
        ...

    def restore(self, state: LoaderState) -> None:
        """Continue exactly after `state`.

        Raises `DataError` when it belongs to other data, or to a setting that would give another stream.
        """
        ...


class LoaderMaker(Protocol):
    """`data.loader`: the order of the training data."""

    @property
    def packed(self) -> bool:
        """Whether batches are one row of documents with `cu_seqlens`."""
        ...

    @property
    def resizable(self) -> bool:
        """Whether the length of rows may change while the stream runs."""
        ...

    def build(
        self, shards: Sequence[Path], *, tokens: int, seq_len: int, rank: int = 0, world: int = 1, seed: int = 0
    ) -> Loader:
        """The loader of rank `rank` of `world`.

        `tokens` is the number of targets in one micro-batch over all ranks. Raises `UsageError` when
        they cannot be shared out in rows of `seq_len`, `DataError` when the shards hold less than a batch.
        """
        ...
