"""zlib: deflate, the coder of the published baseline and the plain choice.

Formula: LZ77 in a window of 32 KiB and Huffman codes, without zlib's own header and checksum (the container has its
own), 6 bytes less a stream.
Source: compression catalogue C1; 2026-03-17_NaiveBaseline.
Measured: 15 % over the order-0 entropy of Gaussian int6 codes, where brotli is 0.8 % over it.
Cost: a second for 17 MB, next to nothing to read; everywhere in the standard library.
Pitfall: the bytes depend on the implementation of zlib (zlib-ng writes others), which matters to the count, not to
the reader.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from paramgolf.artifact.slots import StreamPart, decoded_exactly, level_within, undecodable
from paramgolf.registry import technique

RAW_DEFLATE = -15
"""zlib's spelling of: largest window, no header."""
MOST_MEMORY = 9
"""zlib's largest memory level: longer blocks, fewer tables."""


@technique("zlib", fills="artifact.coder", source="2026-03-17_NaiveBaseline")
@dataclass(frozen=True, kw_only=True)
class ZlibCoder:
    """Deflate."""

    identity: ClassVar[int] = 1

    level: int = 9
    """Effort, 0 to 9."""

    def __post_init__(self) -> None:
        level_within("the level of zlib", self.level, 0, 9)

    def encode(self, data: bytes, parts: Sequence[StreamPart] = ()) -> bytes:
        """`data` as one raw deflate stream."""
        deflate = zlib.compressobj(self.level, zlib.DEFLATED, RAW_DEFLATE, MOST_MEMORY)
        return deflate.compress(data) + deflate.flush()

    def decode(self, data: bytes, size: int, parts: Sequence[StreamPart] = ()) -> bytes:
        """The `size` bytes of the stream. Raises `ArtifactError`."""
        inflate = zlib.decompressobj(RAW_DEFLATE)
        try:
            output = inflate.decompress(data, size + 1)
        except zlib.error as error:
            raise undecodable(error) from None
        return decoded_exactly(output, size, ended=inflate.eof and not inflate.unused_data)
