"""Token shards: the binary files that hold a tokenized corpus (catalogue D1).

A shard is 256 little-endian int32 (magic, version, token count, zeros) and then that many little-endian
uint16 token ids. Its size is exactly 1024 + 2 * tokens bytes; anything else is refused.
"""

import errno
import os
import shutil
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from paramgolf.errors import DataError

Ids = NDArray[np.uint16]
"""Token ids as shards store them."""

SHARD_MAGIC = 20240520
SHARD_VERSION = 1
SHARD_HEADER_BYTES = 1024
SHARD_TOKENS = 100_000_000
"""Tokens of every official shard but the last of a split."""

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""The ways an operating system says that a file cannot grow."""

FOREIGN_STARTS = {
    b"version https://git-lfs": "a Git LFS pointer, not the file it points to",
    b"<": "an HTML or XML page, perhaps a download error saved as a shard",
    b"{": "JSON text",
    b"\x1f\x8b": "a gzip archive",
    b"\xfd7zXZ": "an xz archive",
    b"\x28\xb5\x2f\xfd": "a zstandard archive",
    b"PK\x03\x04": "a zip archive",
    struct.pack(">i", SHARD_MAGIC): "a shard of the other byte order (big-endian)",
}


class Shard(NamedTuple):
    """A shard file whose header and size were checked."""

    path: Path
    tokens: int
    """Read once from the header, so that nobody opens the file again to learn it."""

    def map(self) -> Ids:
        """(tokens,) uint16 ids, memory-mapped and read-only."""
        # A plain view: slicing a np.memmap costs several times as much as slicing an array.
        return np.memmap(self.path, dtype="<u2", mode="r", offset=SHARD_HEADER_BYTES, shape=(self.tokens,)).view(
            np.ndarray
        )

    def check_ids(self, vocab: int, *, chunk: int = 1 << 24) -> None:
        """Read the whole shard, `chunk` tokens at a time; `DataError` at the first id of `vocab` or more."""
        ids = self.map()
        for start in range(0, self.tokens, chunk):
            part = ids[start : start + chunk]
            if int(part.max()) >= vocab:
                place = start + int(np.argmax(part >= vocab))
                raise broken_shard(
                    self.path,
                    f"holds token ids outside the vocabulary of {vocab:,}",
                    f"id {int(ids[place])} at token {place:,} of {self.tokens:,}",
                )


def broken_shard(path: Path, what: str, evidence: str) -> DataError:
    """The error for the file `path`, which `what` is wrong with."""
    return DataError(
        f"{path.name} {what}", evidence=f"{path}: {evidence}", fix=f"paramgolf data check {path.parent or '.'}"
    )


def is_sidecar(path: Path) -> bool:
    """Whether the name says that the file holds byte counts and no tokens (the glob bug of D6)."""
    return "_bytes_" in path.name


def open_shard(path: Path, *, vocab: int | None = None) -> Shard:
    """The token shard at `path`, its header and size checked; with `vocab`, all of its ids too.

    Raises `DataError` when it is missing, empty, truncated, over-long, of another kind or version,
    or a byte sidecar.
    """
    if is_sidecar(path):
        raise broken_shard(
            path, "is a byte sidecar, not a token shard", "its name contains '_bytes_': it counts bytes of tokens"
        )
    shard = checked_header(path)
    if vocab is not None:
        shard.check_ids(vocab)
    return shard


def open_sidecar(path: Path) -> Shard:
    """The byte sidecar at `path` (CaseOps, D8): laid out as a shard, a byte count for every token.

    Raises `DataError` as `open_shard` does, and when its name does not say that it is a sidecar.
    """
    if not is_sidecar(path):
        raise broken_shard(path, "is not a byte sidecar", "the name of a sidecar contains '_bytes_'")
    return checked_header(path)


def checked_header(path: Path) -> Shard:
    """The file `path` as a shard, whatever its name says. Raises `DataError`."""
    try:
        with path.open("rb") as file:
            head = file.read(SHARD_HEADER_BYTES)
            size = os.fstat(file.fileno()).st_size
    except OSError as error:
        raise broken_shard(path, "cannot be read", error.strerror or str(error)) from error
    if size == 0:
        raise broken_shard(path, "is empty", "0 bytes")
    magic = int.from_bytes(head[:4], "little")
    if magic != SHARD_MAGIC or len(head) < 4:
        guess = next((f"; this is {kind}" for start, kind in FOREIGN_STARTS.items() if head.startswith(start)), "")
        raise broken_shard(
            path, "is not a token shard", f"it starts with {head[:16]!r}, not with the magic {SHARD_MAGIC}{guess}"
        )
    if len(head) < SHARD_HEADER_BYTES:
        raise broken_shard(path, "is truncated", f"{size:,} bytes, less than the header of {SHARD_HEADER_BYTES:,}")
    version, tokens = struct.unpack("<ii", head[4:12])
    if version != SHARD_VERSION:
        raise broken_shard(path, "is a shard of another version", f"version {version}, known is {SHARD_VERSION}")
    if tokens <= 0:
        raise broken_shard(path, "holds no tokens", f"the header promises {tokens:,} tokens")
    expected = SHARD_HEADER_BYTES + 2 * tokens
    if size != expected:
        raise broken_shard(
            path,
            "is truncated" if size < expected else "is longer than its header says",
            f"{size:,} bytes where {tokens:,} tokens need {expected:,}",
        )
    return Shard(path, tokens)


def find_shards(folder: Path, split: str) -> tuple[Path, ...]:
    """The token shards of `split` ("train" or "val") in `folder`, in order, without byte sidecars."""
    return tuple(sorted(path for path in folder.glob(f"*_{split}_*.bin") if not is_sidecar(path)))


def sidecar_of(path: Path) -> Path:
    """Where the byte sidecar of the token shard `path` would stand: `x_val_000000` has `x_val_bytes_000000`."""
    stem, _, index = path.stem.rpartition("_")
    return path.with_name(f"{stem}_bytes_{index}{path.suffix}")


def find_sidecars(folder: Path, split: str) -> tuple[Path, ...]:
    """The byte sidecars of `split` in `folder`, in order; empty where the data has none."""
    return tuple(sorted(folder.glob(f"*_{split}_bytes_*.bin")))


class ShardWriter:
    """Writes one split as a row of shards, a new file after every `shard_tokens` tokens.

    Files are called `{prefix}_{split}_{index:06d}.bin` and appear under that name only when complete:
    the current one grows as `.{name}.partial`. Use it as a context manager, which closes the last shard,
    or drops it when the block fails. One writer for each split, so that no shard mixes two.
    """

    def __init__(
        self, folder: Path, prefix: str, split: str, *, shard_tokens: int = SHARD_TOKENS, first: int = 0
    ) -> None:
        if not 0 < shard_tokens < 2**31:
            raise ValueError(f"shard_tokens must be in [1, 2^31), not {shard_tokens}")
        self.folder = folder
        self.prefix = prefix
        self.split = split
        self.shard_tokens = shard_tokens
        self.first = first
        """Index of the first file, for a writer that continues where another stopped."""
        self.paths: tuple[Path, ...] = ()
        """The complete shards so far."""
        self.tokens = 0
        """All tokens written so far, complete shards or not."""
        self.filled = 0
        """Tokens in the current shard."""
        self.file: BinaryIO | None = None
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def target(self) -> Path:
        """Where the current shard will stand."""
        return self.folder / f"{self.prefix}_{self.split}_{self.first + len(self.paths):06d}.bin"

    @property
    def partial(self) -> Path:
        """Where the current shard grows. No process id in it: a restarted writer overwrites what was left."""
        return self.target.with_name(f".{self.target.name}.partial")

    def write(self, ids: NDArray[np.integer]) -> None:
        """Append the 1-d array `ids`.

        Raises `ValueError` for ids outside uint16, `DataError` when the disk is full; then the complete
        shards stand and the current one is gone.
        """
        data = as_uint16(ids)
        while data.size:
            part, data = np.split(data, [self.shard_tokens - self.filled])
            with self.guarded(part.nbytes + data.nbytes):
                if self.file is None:
                    self.file = self.partial.open("wb")
                    self.file.write(shard_header(0))
                self.file.write(part.data)
            self.filled += part.size
            self.tokens += part.size
            if self.filled == self.shard_tokens:
                self.close()

    def close(self) -> None:
        """Complete the current shard, if one is begun. Raises `DataError` when the disk is full."""
        if self.file is None:
            return
        with self.guarded(0):
            self.file.seek(0)
            self.file.write(shard_header(self.filled))
            self.file.close()
            os.replace(self.partial, self.target)
        self.paths = (*self.paths, self.target)
        self.file, self.filled = None, 0

    def abort(self) -> None:
        """Drop the current shard and its temporary file; complete shards stand."""
        if self.file is not None:
            with suppress(OSError):  # closing flushes, which fails again on a full disk
                self.file.close()
            self.partial.unlink(missing_ok=True)
        self.file, self.filled = None, 0

    @contextmanager
    def guarded(self, needed: int) -> Iterator[None]:
        """Turn a full disk into a `DataError` that says how many bytes were `needed`."""
        try:
            yield
        except OSError as error:
            partial = self.partial
            self.abort()
            if error.errno not in NO_ROOM:
                raise
            free = shutil.disk_usage(self.folder).free
            raise DataError(
                f"no room to write {self.target.name}: {os.strerror(error.errno)}",
                evidence=f"{partial}: at least {needed:,} more bytes needed, {free:,} free;"
                f" {len(self.paths)} complete shards stand",
                fix=f"free some space, then repeat the command; df -h {self.folder}",
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:
            self.abort()


def shard_header(tokens: int) -> bytes:
    """The 1,024 bytes before the ids of a shard."""
    return struct.pack("<3i", SHARD_MAGIC, SHARD_VERSION, tokens).ljust(SHARD_HEADER_BYTES, b"\0")


def as_uint16(ids: NDArray[np.integer]) -> Ids:
    """`ids` as contiguous little-endian uint16. Raises `ValueError` when one does not fit."""
    if ids.dtype != np.uint16 and ids.size and (int(ids.min()) < 0 or int(ids.max()) > 65_535):
        raise ValueError(f"token ids must lie in [0, 65536); these span {int(ids.min())} to {int(ids.max())}")
    return np.ascontiguousarray(ids, dtype="<u2")
