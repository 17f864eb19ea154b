"""lrzip: the coder of the record pipeline, to measure others by.

Formula: codes of every matrix transposed, so that a column's stand together; streams of a role one after another into
`lrzip -z -L 9`, which mixes contexts as ZPAQ does.
Source: PR #1855; compression catalogue C1, C3.
Measured: -280 KB against brotli on a record; 0.6 % below the order-0 entropy of its codes, 0.3 % above `mixing`.
Cost: 75 to 100 s to write and 20 to 24 s to read an artifact of 16 MB.
Pitfall: the program has to be installed where the artifact is scored, and is not among the bytes that count.
"""

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import ClassVar

import numpy as np

from paramgolf.artifact.header import HeaderCursor, varint
from paramgolf.artifact.slots import StreamPart, decoded_exactly, level_within, undecodable
from paramgolf.errors import ArtifactError, UsageError
from paramgolf.registry import technique
from paramgolf.stored import FILE_TYPES, rows_and_columns

LONGEST_LRZIP = 600
"""Seconds after which the program is given up."""


@technique("lrzip", fills="artifact.coder", source="PR #1855", effect="-1.8 % bytes against brotli on int6 codes")
@dataclass(frozen=True, kw_only=True)
class LrzipCoder:
    """The program lrzip with its ZPAQ back end."""

    identity: ClassVar[int] = 6

    level: int = 9
    """Effort, 1 to 9."""

    def __post_init__(self) -> None:
        level_within("the level of lrzip", self.level, 1, 9)

    def encode(self, data: bytes, parts: Sequence[StreamPart] = ()) -> bytes:
        """`data`, transposed, as an .lrz file after its length. Raises `UsageError` where the program is missing."""
        blob = run_lrzip(["-z", "-L", str(self.level)], turned(data, parts, back=False))
        return varint(len(blob)) + blob

    def decode(self, data: bytes, size: int, parts: Sequence[StreamPart] = ()) -> bytes:
        """The `size` bytes of the stream. Raises `ArtifactError`, and `UsageError` where the program is missing."""
        cursor = HeaderCursor(data, len(data))
        blob = cursor.take(cursor.varint())
        # Magic "LRZI", two bytes of version, eight of size: asked before the program allocates by it.
        promised = int.from_bytes(blob[6:14], "little")
        if blob[:4] != b"LRZI" or promised != size or cursor.place < len(data):
            return decoded_exactly(b"", size, ended=True)
        try:
            output = run_lrzip(["-d"], blob)
        except subprocess.CalledProcessError as error:
            raise undecodable(error) from None
        return turned(decoded_exactly(output, size, ended=True), parts, back=True)


def run_lrzip(options: Sequence[str], data: bytes) -> bytes:
    """What the program makes of `data`."""
    program = shutil.which("lrzip")
    if program is None:
        raise UsageError("the program lrzip is not installed", fix="install it, or --set artifact.coder=mixing")
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "source.lrz"), Path(folder, "target")
        source.write_bytes(data)
        # One thread: with more it cuts the data, and the bytes depend on the machine.
        command = [program, "-q", "-f", "-p", "1", *options, "-S", ".out", "-o", str(target), str(source)]
        subprocess.run(command, check=True, capture_output=True, timeout=LONGEST_LRZIP)
        return next(Path(folder).glob("target*")).read_bytes()


def turned(data: bytes, parts: Sequence[StreamPart], *, back: bool) -> bytes:
    """Every matrix of a stream transposed, or turned back."""
    pieces, place = [], 0
    for part in parts:
        kind = FILE_TYPES[part.piece.kind]
        shape = rows_and_columns(part.piece.shape)
        numbers = np.frombuffer(data, kind, prod(shape), place).reshape(shape[::-1] if back else shape)
        pieces.append(numbers.T.tobytes())
        place += part.piece.size
    if parts and place != len(data):
        raise ArtifactError("a compressed stream has another length than its parts", evidence=f"{len(data)}, {place}")
    return b"".join(pieces) if parts else data
