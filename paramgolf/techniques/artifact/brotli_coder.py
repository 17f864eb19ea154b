"""Brotli: Lempel-Ziv with context-modelled Huffman codes; the records' coder from April 2026 on.

Formula: RFC 7932 at quality 11.
Source: PR #1089, 2026-04-01; compression catalogue C1, C2.
Measured: 0.8 % over the order-0 entropy of Gaussian int6 codes (zlib 15 %, xz 7 %); below it where columns differ and
the matrix is transposed.
Cost: 20 to 45 s for 17 MB at quality 11 on one core, under a second to read.
Pitfall: codes packed to fewer than 8 bits hide the structure it models (+2.6 MB on a record).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import brotli

from paramgolf.artifact.slots import StreamPart, decoded_exactly, level_within, undecodable
from paramgolf.registry import technique


@technique("brotli", fills="artifact.coder", source="PR #1089", effect="about -13 % bytes against zlib on int6 codes")
@dataclass(frozen=True, kw_only=True)
class BrotliCoder:
    """Brotli."""

    identity: ClassVar[int] = 3

    quality: int = 11
    """Effort, 0 to 11."""
    window: int = 24
    """Binary logarithm of the window in bytes, 10 to 24."""

    def __post_init__(self) -> None:
        level_within("the quality of brotli", self.quality, 0, 11)
        level_within("the window of brotli", self.window, 10, 24)

    def encode(self, data: bytes, parts: Sequence[StreamPart] = ()) -> bytes:
        """`data` as one brotli stream."""
        compressed: bytes = brotli.compress(data, quality=self.quality, lgwin=self.window)
        return compressed

    def decode(self, data: bytes, size: int, parts: Sequence[StreamPart] = ()) -> bytes:
        """The `size` bytes of the stream. Raises `ArtifactError`."""
        unpacker = brotli.Decompressor()
        try:
            # The limit is one of growth: the buffer may overshoot it by one of its own blocks.
            output: bytes = unpacker.process(data, output_buffer_limit=size + 1)
        except brotli.error as error:
            raise undecodable(error) from None
        return decoded_exactly(output, size, ended=unpacker.is_finished())
