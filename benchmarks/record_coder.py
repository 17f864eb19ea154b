"""What the record pipeline did with codes: matrices of a shape together, each transposed, through `lrzip -z -L 9`.

Other programs may stand in its place, to be compared on the same terms.

Its similarity sort is left out (C1: it wins less than its stored permutation costs). Where the program is missing or
does not start, every group takes the shorter of brotli and lzma, and `record_coder` says so in the name.
"""

import subprocess
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

import numpy as np

from paramgolf.artifact.slots import Coder, StreamPart
from paramgolf.stored import StreamKind
from paramgolf.techniques.artifact import BrotliCoder, LzmaCoder, ZstdCoder

LENGTH_BYTES = 4
"""Of the length before every group."""


class NamedCoder(NamedTuple):
    """A coder and what to call it in a table."""

    coder: Coder
    told: str


def lrzip_bytes(data: bytes, *options: str) -> bytes:
    """`data` through the program lrzip on one thread: with more it cuts the data, and bytes depend on the machine."""
    with tempfile.TemporaryDirectory() as folder:
        given, made = Path(folder) / "given", Path(folder) / "made"
        given.write_bytes(data)
        mode = options or ("-z", "-L", "9")
        command = ["lrzip", "-q", "-f", "-p", "1", *mode, "-o", str(made), str(given)]
        subprocess.run(command, check=True, capture_output=True)
        return made.read_bytes()


def lrzip_works() -> bool:
    """Whether the program is there, starts and gives back what it got."""
    try:
        return lrzip_bytes(lrzip_bytes(b"golf" * 1000), "-d") == b"golf" * 1000
    except (OSError, subprocess.CalledProcessError):
        return False


@dataclass(frozen=True, kw_only=True)
class GroupedCoder:
    """Groups of transposed matrices of one shape, side by side in threads; what is no codes goes through brotli."""

    identity: ClassVar[int] = 250

    by: Literal["lrzip", "zstd", "brotli or lzma"] = "lrzip"
    """What each group goes through; the shorter of two is named by a byte."""

    def encode(self, data: bytes, parts: Sequence[StreamPart] = ()) -> bytes:
        """`data` compressed."""
        if not codes_only(parts):
            return BrotliCoder().encode(data)
        groups: dict[tuple[int, ...], list[bytes]] = {}
        place = 0
        for part in parts:
            matrix = np.frombuffer(data, np.uint8, part.piece.size, place).reshape(part.piece.shape)
            groups.setdefault(part.piece.shape, []).append(np.ascontiguousarray(matrix.T).tobytes())
            place += part.piece.size
        blobs = side_by_side(self.shortened, [b"".join(group) for group in groups.values()])
        return b"".join(len(blob).to_bytes(LENGTH_BYTES, "little") + blob for blob in blobs)

    def decode(self, data: bytes, size: int, parts: Sequence[StreamPart] = ()) -> bytes:
        """The `size` bytes that `encode` got."""
        if not codes_only(parts):
            return BrotliCoder().decode(data, size)
        sizes: dict[tuple[int, ...], int] = {}
        for part in parts:
            sizes[part.piece.shape] = sizes.get(part.piece.shape, 0) + part.piece.size
        blobs, place = [], 0
        for _ in sizes:
            start = place + LENGTH_BYTES
            place = start + int.from_bytes(data[place:start], "little")
            blobs.append(data[start:place])
        with ThreadPoolExecutor(max(len(blobs), 1)) as pool:
            decoded = list(pool.map(self.expanded, blobs, sizes.values()))
        whole = dict(zip(sizes, decoded, strict=True))
        places, found = dict.fromkeys(sizes, 0), []
        for part in parts:
            shape = part.piece.shape
            matrix = np.frombuffer(whole[shape], np.uint8, part.piece.size, places[shape]).reshape(shape[::-1])
            found.append(np.ascontiguousarray(matrix.T).tobytes())
            places[shape] += part.piece.size
        return b"".join(found)

    def shortened(self, data: bytes) -> bytes:
        """One group, compressed."""
        if self.by == "lrzip":
            return lrzip_bytes(data)
        return ZstdCoder().encode(data) if self.by == "zstd" else shorter_of_two(data)

    def expanded(self, blob: bytes, size: int) -> bytes:
        """The `size` bytes of one group."""
        if self.by == "lrzip":
            return lrzip_bytes(blob, "-d")
        return ZstdCoder().decode(blob, size) if self.by == "zstd" else expanded_of_two(blob, size)


def side_by_side(do: Callable[[bytes], bytes], blobs: Sequence[bytes]) -> list[bytes]:
    """`do` of each of `blobs`, all at once."""
    with ThreadPoolExecutor(max(len(blobs), 1)) as pool:
        return list(pool.map(do, blobs))


def shorter_of_two(data: bytes) -> bytes:
    """`data` through brotli or lzma, after a byte that says which."""
    coders = (BrotliCoder(), LzmaCoder())
    return min((bytes([number]) + coder.encode(data) for number, coder in enumerate(coders)), key=len)


def expanded_of_two(blob: bytes, size: int) -> bytes:
    """The `size` bytes that `shorter_of_two` got."""
    return (LzmaCoder() if blob[0] else BrotliCoder()).decode(blob[1:], size)


def codes_only(parts: Sequence[StreamPart]) -> bool:
    """Whether `parts` are matrices of one-byte codes."""
    return bool(parts) and all(part.piece.kind is StreamKind.CODES and len(part.piece.shape) == 2 for part in parts)


def record_coder() -> NamedCoder:
    """The record's coder, or what stands in for it where lrzip does not run."""
    if lrzip_works():
        return NamedCoder(GroupedCoder(), "lrzip -z")
    return NamedCoder(GroupedCoder(by="brotli or lzma"), "NO LRZIP: the shorter of brotli and lzma")
