"""LZMA: Lempel-Ziv with an adaptive binary range coder.

Formula: an LZMA2 stream without the .xz wrapping (no header, index or check; about 60 bytes less a stream). The
dictionary is as long as the data, so that its size need not be stored and a file cannot ask for more.
Source: compression catalogue C1.
Measured: 2 to 5 % below zstd-22 on int6 codes; worse than zlib on int8 codes; 7 % over the order-0 entropy of
Gaussian codes.
Cost: 10 to 25 s for 17 MB on one core; in the standard library.
"""

import lzma
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from paramgolf.artifact.slots import StreamPart, decoded_exactly, level_within, undecodable
from paramgolf.registry import technique

LEAST_DICTIONARY = 4096
"""The least that liblzma takes."""


@technique("lzma", fills="artifact.coder", source="compression catalogue C1", effect="-2 to -5 % bytes against zstd")
@dataclass(frozen=True, kw_only=True)
class LzmaCoder:
    """LZMA2, raw."""

    identity: ClassVar[int] = 2

    preset: int = 9
    """Effort, 0 to 9."""

    def __post_init__(self) -> None:
        level_within("the preset of lzma", self.preset, 0, 9)

    def encode(self, data: bytes, parts: Sequence[StreamPart] = ()) -> bytes:
        """`data` as one raw LZMA2 stream."""
        effort = {"id": lzma.FILTER_LZMA2, "preset": self.preset, "dict_size": dictionary(len(data))}
        return lzma.compress(data, lzma.FORMAT_RAW, filters=[effort])

    def decode(self, data: bytes, size: int, parts: Sequence[StreamPart] = ()) -> bytes:
        """The `size` bytes of the stream. Raises `ArtifactError`."""
        filters: list[dict[str, Any]] = [{"id": lzma.FILTER_LZMA2, "dict_size": dictionary(size)}]
        unpacker = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=filters)
        try:
            output = unpacker.decompress(data, size + 1)
        except lzma.LZMAError as error:
            raise undecodable(error) from None
        return decoded_exactly(output, size, ended=unpacker.eof and not unpacker.unused_data)


def dictionary(size: int) -> int:
    """Bytes of dictionary for `size` bytes of data, for writer and reader alike."""
    return max(LEAST_DICTIONARY, size)
