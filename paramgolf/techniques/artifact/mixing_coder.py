"""An adaptive arithmetic coder of weights: every bit of every code predicted from what is known so far.

Formula: a code is said bit by bit (zero, sign, binary exponent, the bits below), each bit with a chance mixed from
contexts: the magnitude that the averages of row and column lead to expect, both apart, a column average that forgets,
the codes above, averages of signs, signs nearby, the grid of a trellis code (`artifact/code_model.py`). Other numbers
are said byte by byte (`artifact/number_model.py`). Whole numbers only (`artifact/bits.py`).
Source: compression catalogue C10; DeepCABAC (arXiv 1907.11900); Mahoney's lpaq.
Measured: 15,760,186 bytes for the 35.9 M int6 and int7 codes of PR #1855, 0.5 % below their order-0 entropy by matrix,
where lrzip -z takes 15,802,402 and zstd 16,031,827 (benchmarks/artifact_coders.py, docs/artifact.md).
Cost: about a microsecond a code on one core, to read as to write, in as many threads as there are cores; numba, which
compiles for some seconds in every process that codes.
Pitfall: it learns the averages of rows and columns as they come; block diagonals and other places within a matrix are
lost on it.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import ClassVar

from paramgolf.artifact.header import HeaderCursor, varint
from paramgolf.artifact.slots import StreamPart
from paramgolf.registry import technique


@technique("mixing", fills="artifact.coder", source="compression catalogue C10", effect="-0.3 % bytes against lrzip")
@dataclass(frozen=True, kw_only=True)
class MixingCoder:
    """Context mixing for weights."""

    identity: ClassVar[int] = 5

    threads: int = 0
    """Segments coded at a time; 0: one a core. The bytes do not depend on it."""

    def __post_init__(self) -> None:
        if self.threads < 0:
            raise ValueError(f"threads are 0 or more, unlike {self.threads}")

    def encode(self, data: bytes, parts: Sequence[StreamPart] = ()) -> bytes:
        """`data` as segments one after another, the lengths of all but the last before them."""
        # Imported late: numba is slow to import, and most commands code nothing.
        from paramgolf.artifact.symbols import symbols_of, write_segment

        symbols = symbols_of(data, parts)
        model, lead = write_segment(symbols, symbols.fresh(), 0)
        with ThreadPoolExecutor(self.threads or None) as pool:
            rest = pool.map(lambda number: write_segment(symbols, model, number)[1], range(1, symbols.segments))
            blobs = [lead, *rest]
        return b"".join(varint(len(blob)) for blob in blobs[:-1]) + b"".join(blobs)

    def decode(self, data: bytes, size: int, parts: Sequence[StreamPart] = ()) -> bytes:
        """The `size` bytes of the stream. Raises `ArtifactError`."""
        from paramgolf.artifact.symbols import read_segment, symbols_of

        symbols = symbols_of(bytes(size), parts)
        cursor = HeaderCursor(data, len(data))
        lengths = [cursor.varint() for _ in range(1, symbols.segments)]
        blobs = [cursor.take(length) for length in lengths]
        blobs.append(data[cursor.place :])
        model, _ = read_segment(symbols, symbols.fresh(), 0, blobs[0])
        with ThreadPoolExecutor(self.threads or None) as pool:
            list(pool.map(lambda number: read_segment(symbols, model, number, blobs[number]), range(1, len(blobs))))
        return symbols.as_bytes()
