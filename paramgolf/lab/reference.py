"""What general compressors make of the same validation text: the scale on which to read bits per byte."""

import gzip
import lzma
from collections.abc import Callable
from typing import NamedTuple

import zstandard

from paramgolf.data.dataset import Dataset
from paramgolf.data.validation import val_documents, validation_stream, visible_runs

REFERENCE_BYTES = 10_000_000
"""Of a longer validation text only so much is compressed: xz takes about a second for a megabyte."""

COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "gzip -9": lambda data: gzip.compress(data, 9, mtime=0),
    "xz -9e": lambda data: lzma.compress(data, preset=9 | lzma.PRESET_EXTREME),
    "zstd -19": lambda data: zstandard.compress(data, 19),
}


class Reference(NamedTuple):
    """One compressor on one text."""

    compressor: str
    bits_per_byte: float
    """Size of the whole compressed file, header included."""
    text_bytes: int
    """How much text was compressed."""


def references(text: bytes) -> list[Reference]:
    """What each of `COMPRESSORS` makes of `text`, taken as one file; nothing for an empty text."""
    return [Reference(name, 8 * len(press(text)) / len(text), len(text)) for name, press in COMPRESSORS.items() if text]


def validation_text(dataset: Dataset, most: int = REFERENCE_BYTES) -> bytes:
    """The documents of the validation split one after another, at most `most` bytes: the very bytes bpb divides by."""
    stream = validation_stream(dataset.val, dataset.tokenizer, sidecars=dataset.val_bytes, verify=False)
    table, parts, size = dataset.tokenizer.byte_table(), [], 0
    for document in val_documents(stream):
        parts += [dataset.tokenizer.decode(run).encode() for run in visible_runs(document.ids, table)]
        size += document.counted
        if size >= most:
            break
    return b"".join(parts)[:most]


def validation_references(dataset: Dataset) -> list[Reference]:
    """The scale for scores on `dataset`."""
    return references(validation_text(dataset))
