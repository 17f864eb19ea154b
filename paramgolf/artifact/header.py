"""The header of an artifact: what it says of tensors and streams, as bytes and back.

Layout, integers little-endian, `varint` as in LEB128:

    magic "PGLF" · u8 version · 6 bytes config digest · u16 length of the body · body · u32 CRC-32 of all before
    body: u32 CRC-32 of the decoded streams one after another
          varint runs,    each: varint tensors · u8 terms, each: u8 kind of term · u8 n · n bytes of settings
          varint streams, each: u8 kind · u8 role · u8 coder · varint bytes · varint decoded bytes · u32 CRC-32
    then the streams, and nothing after them
"""

import struct
import zlib
from typing import NamedTuple

from paramgolf.errors import ArtifactError
from paramgolf.parts import Role
from paramgolf.stored import StreamKind

ARTIFACT_MAGIC = b"PGLF"
FORMAT_VERSION = 1
DIGEST_BYTES = 6
HEADER_PREFIX = struct.Struct("<4sB6sH")
CHECKSUM = struct.Struct("<I")
UNCOMPRESSED = 0
"""In place of the identity of a coder: the stream is as it was."""
MOST_TERMS = 4
"""Of one tensor; bounds what a hostile file can make a reader allocate."""
LONGEST_VARINT = 5

KIND_IDS = (
    StreamKind.FLOATS,
    StreamKind.HALVES,
    StreamKind.SCALES,
    StreamKind.CODES,
    StreamKind.WIDE_CODES,
    StreamKind.PACKED,
    StreamKind.STEPS,
)
"""Place is the byte in the file: append, never reorder."""
STREAM_ORDER = (
    StreamKind.FLOATS,
    StreamKind.HALVES,
    StreamKind.SCALES,
    StreamKind.STEPS,
    StreamKind.CODES,
    StreamKind.WIDE_CODES,
    StreamKind.PACKED,
)
"""Streams stand in the file by kind in this order, then by role: a coder of codes may use scales and steps."""
ROLE_IDS = (
    None,
    Role.EMBED,
    Role.HEAD,
    Role.ATTENTION,
    Role.MLP,
    Role.TABLE,
    Role.PROJECTION,
    Role.GATE,
    Role.SCALE,
)
"""Place is the byte in the file: append, never reorder. None: a stream that all roles share."""

MEND_ARTIFACT = "copy the file again, or export again"


class TermForm(NamedTuple):
    """All that an artifact says of one term."""

    identity: int
    settings: bytes


TensorForm = tuple[TermForm, ...]
"""All that an artifact says of one tensor."""


class FormRun(NamedTuple):
    """Consecutive tensors of one form."""

    tensors: int
    form: TensorForm


class StreamLabel(NamedTuple):
    """Which numbers of which parameters a stream holds."""

    kind: int
    """Place in `KIND_IDS`."""
    role: int
    """Place in `ROLE_IDS`."""

    @property
    def rank(self) -> tuple[int, int]:
        """What streams are sorted by."""
        return STREAM_ORDER.index(KIND_IDS[self.kind]), self.role

    def __str__(self) -> str:
        role = ROLE_IDS[self.role]
        return f"{role.value if role else 'all'} {KIND_IDS[self.kind].value}"


class StreamEntry(NamedTuple):
    """One line of the table of streams."""

    label: StreamLabel
    coder: int
    size: int
    """Bytes in the file."""
    raw_size: int
    """Bytes decoded."""
    checksum: int
    """CRC-32 of the bytes in the file."""


class ArtifactHeader(NamedTuple):
    """What precedes the streams."""

    digest: bytes
    """6 bytes: the config that the weights belong to."""
    content: int
    """CRC-32 of the decoded streams, one after another."""
    runs: tuple[FormRun, ...]
    """Tensors in canonical order: by role, then by declaration."""
    streams: tuple[StreamEntry, ...]


def artifact_header_bytes(header: ArtifactHeader) -> bytes:
    """`header` as it stands in a file, checksum included."""
    body = CHECKSUM.pack(header.content) + varint(len(header.runs))
    for run in header.runs:
        body += varint(run.tensors) + bytes([len(run.form)])
        for term in run.form:
            body += bytes([term.identity, len(term.settings)]) + term.settings
    body += varint(len(header.streams))
    for entry in header.streams:
        body += bytes([*entry.label, entry.coder]) + varint(entry.size) + varint(entry.raw_size)
        body += CHECKSUM.pack(entry.checksum)
    prefixed = HEADER_PREFIX.pack(ARTIFACT_MAGIC, FORMAT_VERSION, header.digest, len(body)) + body
    return prefixed + CHECKSUM.pack(zlib.crc32(prefixed))


def read_artifact_header(data: bytes) -> tuple[ArtifactHeader, int]:
    """The header of the artifact `data` and where its first stream begins.

    Raises `ArtifactError` unless the header is whole and the streams fill the rest of `data` exactly.
    """
    if data[:4] != ARTIFACT_MAGIC:
        raise ArtifactError(
            "not an artifact of paramgolf",
            evidence=f"begins with {data[:4]!r}, not {ARTIFACT_MAGIC!r}",
            fix="give it the artifact.pgolf of a run; paramgolf export FOLDER writes it",
        )
    cursor = HeaderCursor(data, len(data))
    _, version, digest, length = HEADER_PREFIX.unpack(cursor.take(HEADER_PREFIX.size))
    if version != FORMAT_VERSION:
        raise ArtifactError(
            f"the artifact has format version {version}; this program reads {FORMAT_VERSION}",
            fix=f"if it should be {FORMAT_VERSION}, {MEND_ARTIFACT}; else use the version that wrote it",
        )
    end = HEADER_PREFIX.size + length
    HeaderCursor(data, len(data), end).take(CHECKSUM.size)
    stored_checksum = CHECKSUM.unpack_from(data, end)[0]
    if zlib.crc32(data[:end]) != stored_checksum:
        raise ArtifactError(
            "the header of the artifact is damaged",
            evidence=f"CRC-32 of bytes 0 to {end} is {zlib.crc32(data[:end]):08x}, recorded {stored_checksum:08x}",
            fix=MEND_ARTIFACT,
        )
    header = read_header_body(digest, HeaderCursor(data, end, HEADER_PREFIX.size))
    start = end + CHECKSUM.size
    promised = start + sum(entry.size for entry in header.streams)
    if promised != len(data):
        raise ArtifactError(
            "the artifact is truncated" if len(data) < promised else "the artifact goes on after its last stream",
            evidence=f"{len(data):,} bytes, its header promises {promised:,}",
            fix=MEND_ARTIFACT,
        )
    return header, start


def read_header_body(digest: bytes, cursor: "HeaderCursor") -> ArtifactHeader:
    """The header whose body `cursor` stands before. Raises `ArtifactError` when the body is not exactly one."""
    content = CHECKSUM.unpack(cursor.take(CHECKSUM.size))[0]
    # A count that lies ends with the bytes: every entry takes some.
    runs = tuple(read_form_run(cursor) for _ in range(cursor.varint()))
    streams = tuple(read_stream_entry(cursor) for _ in range(cursor.varint()))
    if cursor.place != cursor.end:
        raise ArtifactError("the header of the artifact is longer than its content", evidence=f"byte {cursor.place}")
    return ArtifactHeader(digest, content, runs, streams)


def read_form_run(cursor: "HeaderCursor") -> FormRun:
    """One run of tensors of the same form."""
    tensors, terms = cursor.varint(), cursor.byte(MOST_TERMS)
    return FormRun(tensors, tuple(TermForm(cursor.byte(), cursor.take(cursor.byte())) for _ in range(terms)))


def read_stream_entry(cursor: "HeaderCursor") -> StreamEntry:
    """One line of the table of streams."""
    label = StreamLabel(cursor.byte(len(KIND_IDS) - 1), cursor.byte(len(ROLE_IDS) - 1))
    coder, size, raw_size = cursor.byte(), cursor.varint(), cursor.varint()
    return StreamEntry(label, coder, size, raw_size, CHECKSUM.unpack(cursor.take(CHECKSUM.size))[0])


class HeaderCursor:
    """Reads `data` up to `end`; past it, or at a number that cannot be, it raises `ArtifactError` with the place."""

    def __init__(self, data: bytes, end: int, place: int = 0) -> None:
        self.data = data
        self.end = end
        self.place = place

    def take(self, size: int) -> bytes:
        """The next `size` bytes."""
        if self.place + size > self.end:
            raise ArtifactError(
                "the artifact is truncated or its header damaged",
                evidence=f"wanted {size} bytes at byte {self.place}, there are {max(self.end - self.place, 0)}",
                fix=MEND_ARTIFACT,
            )
        self.place += size
        return self.data[self.place - size : self.place]

    def byte(self, most: int = 255) -> int:
        """The next byte, at most `most`."""
        value = self.take(1)[0]
        if value > most:
            raise ArtifactError(
                "the header of the artifact names something unknown",
                evidence=f"{value} at byte {self.place - 1}, where this program knows up to {most}",
                fix="read it with the version that wrote it",
            )
        return value

    def varint(self) -> int:
        """The next variable-length integer, below 2^35."""
        value = 0
        for shift in range(0, 7 * LONGEST_VARINT, 7):
            byte = self.byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
        raise ArtifactError("the header of the artifact is damaged", evidence=f"endless number at byte {self.place}")


def varint(value: int) -> bytes:
    """`value` in groups of seven bits, lowest first, the high bit set on all but the last (LEB128)."""
    assert 0 <= value < 1 << 7 * LONGEST_VARINT, value
    parts = bytearray()
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    parts.append(value)
    return bytes(parts)
