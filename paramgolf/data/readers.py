"""Readers: the documents in one file of text, JSON lines (.gz, .xz, .zst) or Parquet, streamed."""

import ast
import gzip
import io
import json
import lzma
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

import zstandard

from paramgolf.data.documents import PROSE, PYTHON, Document, SplitName, cut_pieces
from paramgolf.errors import DataError, UsageError

COMPRESSED = (".gz", ".xz", ".zst")
TEXT_SUFFIXES = (".txt", ".md", ".rst", ".py", ".text")
RECORD_SUFFIXES = (".jsonl", ".parquet")


class TextSource(NamedTuple):
    """One file of a corpus."""

    path: Path
    name: str
    """Relative to the corpus, with forward slashes."""
    split: SplitName | None


def source_kind(path: Path) -> str | None:
    """The suffix that says how to read `path` (".txt", ".jsonl", ".parquet"), or None for a file to leave alone."""
    name = path.name.lower()
    for suffix in COMPRESSED:
        name = name.removesuffix(suffix)
    kind = Path(name).suffix
    return kind if kind in TEXT_SUFFIXES + RECORD_SUFFIXES else None


def read_source(source: TextSource, *, column: str, piece: int) -> Iterator[Document]:
    """The documents of one file in order; `position` counts from the start of the file.

    `column` is the field of the text in JSON lines and Parquet; text files are cut into pieces of at most `piece`
    characters. Raises `DataError` naming file and line where the file is damaged or has no such field.
    """
    kind = source_kind(source.path)
    if kind == ".parquet":
        return read_parquet(source, column)
    if kind == ".jsonl":
        return read_jsonl(source, column)
    if source.path.parts[-2:] == ("pydoc_data", "topics.py"):
        return read_topics(source, piece)
    return read_text(source, piece)


def read_text(source: TextSource, piece: int) -> Iterator[Document]:
    """A text file: one document, or several where it is longer than `piece` characters.

    Bytes that are not UTF-8 arrive as lone surrogates, which `clean_document` replaces and reports.
    """
    marks = PYTHON if source_kind(source.path) == ".py" else PROSE
    with open_stream(source.path) as (raw, stream):
        text = io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape")
        for part in cut_pieces(text.read, piece, marks):
            yield Document(part, source.split, source.name, raw.tell())


def read_topics(source: TextSource, piece: int) -> Iterator[Document]:
    """The topics of `help()`: the language reference, kept by Python as a dictionary of strings in a .py file."""
    for node in ast.parse(source.path.read_bytes()).body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Dict):
            for key, text in ast.literal_eval(node.value).items():
                for part in cut_pieces(io.StringIO(text).read, piece):
                    yield Document(part, source.split, f"{source.name}:{key}", source.path.stat().st_size)


def read_jsonl(source: TextSource, column: str) -> Iterator[Document]:
    """One JSON object a line with the text under `column`; blank lines are skipped."""
    with open_stream(source.path) as (raw, stream):
        for number, line in enumerate(stream, 1):
            if line.isspace():
                continue
            try:
                record = json.loads(line)
            except ValueError as error:
                raise bad_line(source, number, f"not JSON: {error}", line) from None
            text = record.get(column) if isinstance(record, dict) else None
            if not isinstance(text, str):
                fields = ", ".join(record) if isinstance(record, dict) else type(record).__name__
                raise bad_line(source, number, f"no string under {column!r}; it has: {fields}", line)
            yield Document(text, source.split, source.name, raw.tell())


def bad_line(source: TextSource, number: int, what: str, line: bytes) -> DataError:
    """The error for one line of JSON that cannot be used."""
    return DataError(
        f"{source.path} line {number} is not a document",
        evidence=f"{what}; the line begins {line[:80]!r}",
        fix='every line is one JSON object such as {"text": "..."}',
    )


def read_parquet(source: TextSource, column: str) -> Iterator[Document]:
    """The strings of one column, a record batch at a time; nulls count as empty. Needs pyarrow."""
    try:
        from pyarrow import ArrowInvalid
        from pyarrow.parquet import ParquetFile
    except ImportError:
        raise UsageError(
            f"reading {source.path.name} needs pyarrow, which is not installed", fix="pip install 'paramgolf[data]'"
        ) from None
    size = source.path.stat().st_size
    try:
        with ParquetFile(source.path) as table:
            names = table.schema_arrow.names
            if column not in names:
                raise DataError(f"{source.path} has no column {column!r}", evidence=f"its columns: {', '.join(names)}")
            rows, seen = max(table.metadata.num_rows, 1), 0
            for batch in table.iter_batches(batch_size=1024, columns=[column]):
                for text in batch.column(0).to_pylist():
                    seen += 1
                    yield Document(text or "", source.split, source.name, size * seen // rows)
    except (ArrowInvalid, OSError) as error:
        raise damaged_source(source.path, error) from error


@contextmanager
def open_stream(path: Path) -> Iterator[tuple[BinaryIO, BinaryIO]]:
    """The file as it lies on disk (its `tell` is the progress) and the decompressed stream of its content."""
    with path.open("rb") as raw:
        try:
            yield raw, decompressed(raw, path.suffix.lower())
        except (EOFError, gzip.BadGzipFile, zlib.error, lzma.LZMAError, zstandard.ZstdError) as error:
            raise damaged_source(path, error) from error


def decompressed(raw: BinaryIO, suffix: str) -> BinaryIO:
    """A buffered stream of the content of `raw`, compressed as `suffix` says."""
    if suffix == ".gz":
        return io.BufferedReader(gzip.GzipFile(fileobj=raw), 1 << 20)
    if suffix == ".xz":
        return io.BufferedReader(lzma.LZMAFile(raw), 1 << 20)
    if suffix == ".zst":
        return io.BufferedReader(ZstdFrames(raw), 1 << 20)
    return raw


class ZstdFrames(io.RawIOBase):
    """The content of a zstd file of one or more frames; unlike the library's reader, it notices a cut file."""

    def __init__(self, raw: BinaryIO) -> None:
        self.raw = raw
        self.frame = zstandard.ZstdDecompressor().decompressobj()
        self.started = False
        self.held = b""

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        """Fill `buffer` with what comes next. Raises `EOFError` where the file ends inside a frame."""
        while not self.held:
            if self.frame.eof:
                rest = self.frame.unused_data
                self.frame = zstandard.ZstdDecompressor().decompressobj()
                self.started = False
            else:
                rest = b""
            rest = rest or self.raw.read(1 << 17)
            if not rest:
                if self.started:
                    raise EOFError("the file ends inside a zstd frame")
                return 0
            self.started = True
            self.held = self.frame.decompress(rest)
        given = min(len(buffer), len(self.held))
        buffer[:given] = self.held[:given]
        self.held = self.held[given:]
        return given


def damaged_source(path: Path, error: Exception) -> DataError:
    """The error for a file whose compression or structure is broken."""
    return DataError(
        f"{path} is damaged or incomplete",
        evidence=f"{type(error).__name__}: {error}",
        fix="fetch or write the file again",
    )
