"""The symbols of a stream in segments that are coded side by side: codes block by block, other numbers as bytes."""

import zlib
from collections.abc import Iterator, Sequence
from itertools import pairwise
from math import prod
from typing import NamedTuple, Protocol

import numpy as np
import torch

from paramgolf.artifact.bits import BitModel, Integers, code_plainly, ended, reader, untaught_model, writer, written
from paramgolf.artifact.code_model import CODE_MODEL, Plane, code_plane, plane_tables, said_of
from paramgolf.artifact.forecast import forecast_for
from paramgolf.artifact.number_model import NUMBER_MODEL, code_numbers
from paramgolf.artifact.slots import StreamPart
from paramgolf.errors import ArtifactError
from paramgolf.stored import FILE_TYPES, NUMBER_TYPES, StreamKind, rows_and_columns
from paramgolf.terms import TERMS
from paramgolf.trellis import FIRST_TRELLIS_FLAG, Trellis, next_states

LEAD_CODES = 1 << 17
"""The first segment, from which all others start, has about so many."""
SEGMENT_CODES = 1 << 19
"""Another segment has at least so many codes, if there are."""
BLOCK_CODES = 1 << 23
"""A matrix of more codes is cut into blocks of rows."""
ROOM = 64
"""Bytes that a symbol takes at the very most, and that a block takes beside its codes for a column."""
SEAL_BITS = 16
"""Of the checksum at the end of a segment."""


class Symbols(Protocol):
    """What a stream is made of, to be read or written in place."""

    segments: int
    """How many there are, at least one."""

    def fresh(self) -> BitModel:
        """The model that the first segment starts with."""
        ...

    def code(self, model: BitModel, segment: int) -> None:
        """Write or read all symbols of a segment."""
        ...

    def room(self, segment: int) -> int:
        """Bytes that a segment takes at the very most."""
        ...

    def checksum(self, segment: int) -> int:
        """SEAL_BITS bits that tell the symbols of a segment from others."""
        ...

    def as_bytes(self) -> bytes:
        """The stream."""
        ...


class CodeBlock(NamedTuple):
    """Some rows of the matrix of one part of a stream."""

    part: int
    first: int
    last: int


class CodeSymbols:
    """Codes as matrices, cut into blocks, blocks gathered to segments; a block knows nothing of those before it."""

    def __init__(self, data: bytes, parts: Sequence[StreamPart]) -> None:
        self.parts, self.tables = parts, plane_tables()
        self.kind = FILE_TYPES[parts[0].piece.kind]
        flat, place = np.frombuffer(data, self.kind).astype(np.int64), 0
        self.matrices: list[Integers] = []
        for part in parts:
            size = prod(part.piece.shape)
            self.matrices.append(flat[place : place + size].reshape(rows_and_columns(part.piece.shape)))
            place += size
        self.groups = segments_of([matrix.shape for matrix in self.matrices])
        self.segments = len(self.groups)

    def fresh(self) -> BitModel:
        """A model that expects nothing of codes."""
        return untaught_model(CODE_MODEL)

    def code(self, model: BitModel, segment: int) -> None:
        """Every block of a segment."""
        for block in self.groups[segment]:
            plane = self.plane(block)
            # Said by a writer, overwritten by a reader.
            code_plane(model, CODE_MODEL.starts, self.tables, plane, said_of(plane))

    def plane(self, block: CodeBlock) -> Plane:
        """A block with the steps of its rows and columns and, of a trellis, its states."""
        part, matrix = self.parts[block.part], self.matrices[block.part]
        rows, columns = step_logs(part, matrix.shape)
        after = trellis_of(part)
        states = states_before(matrix[: block.first], after)
        codes = matrix[block.first : block.last]
        return Plane(codes, rows[block.first : block.last], columns, after, forecast_for(*codes.shape), states)

    def room(self, segment: int) -> int:
        """Bytes that a segment takes at the very most."""
        return ROOM * sum(
            (block.last - block.first + 1) * (self.matrices[block.part].shape[1] + 1) for block in self.groups[segment]
        )

    def checksum(self, segment: int) -> int:
        """The last bits of a CRC-32 of the codes."""
        seal = 0
        for block in self.groups[segment]:
            seal = zlib.crc32(self.matrices[block.part][block.first : block.last].astype("<i4").tobytes(), seal)
        return seal % (1 << SEAL_BITS)

    def as_bytes(self) -> bytes:
        """The stream. Raises `ArtifactError` for a code that its numbers cannot hold."""
        flat = np.concatenate([matrix.ravel() for matrix in self.matrices])
        limits = np.iinfo(self.kind)
        if flat.size and not limits.min <= flat.min() <= flat.max() <= limits.max:
            evidence = f"codes from {flat.min()} to {flat.max()}"
            raise ArtifactError("a compressed stream holds codes that are too large", evidence=evidence)
        return flat.astype(self.kind).tobytes()


class NumberSymbols:
    """Numbers of all parts one after another, as bytes; one segment."""

    segments = 1

    def __init__(self, data: bytes, parts: Sequence[StreamPart]) -> None:
        self.width = NUMBER_TYPES[parts[0].piece.kind].itemsize if parts else 1
        self.numbers = np.frombuffer(data, np.uint8).astype(np.int64).reshape(-1, self.width)[:, ::-1].copy()
        self.columns = parts[0].piece.shape[-1] if parts and parts[0].piece.shape else 1

    def fresh(self) -> BitModel:
        """A model that expects nothing of bytes."""
        return untaught_model(NUMBER_MODEL)

    def code(self, model: BitModel, segment: int) -> None:
        """All numbers."""
        code_numbers(model, NUMBER_MODEL.starts, self.numbers, max(self.columns, 1))

    def room(self, segment: int) -> int:
        """Bytes that the segment takes at the very most."""
        return ROOM * (self.numbers.size + 1)

    def checksum(self, segment: int) -> int:
        """The last bits of a CRC-32 of the numbers."""
        return zlib.crc32(self.as_bytes()) % (1 << SEAL_BITS)

    def as_bytes(self) -> bytes:
        """The stream."""
        return self.numbers[:, ::-1].astype(np.uint8).tobytes()


def symbols_of(data: bytes, parts: Sequence[StreamPart]) -> Symbols:
    """The symbols of a stream: codes where it is said to hold codes."""
    if parts and parts[0].piece.kind in (StreamKind.CODES, StreamKind.WIDE_CODES):
        return CodeSymbols(data, parts)
    return NumberSymbols(data, parts)


def write_segment(symbols: Symbols, model: BitModel, segment: int) -> tuple[BitModel, bytes]:
    """A segment as bytes, beginning with what `model` knows, and what is known after it."""
    writing = writer(model, symbols.room(segment) + ROOM)
    symbols.code(writing, segment)
    code_plainly(writing, symbols.checksum(segment), SEAL_BITS)
    return writing, written(writing)


def read_segment(symbols: Symbols, model: BitModel, segment: int, blob: bytes) -> tuple[BitModel, bytes]:
    """Fill a segment from `blob`. Raises `ArtifactError` when it is not what `write_segment` wrote."""
    reading = reader(model, blob)
    symbols.code(reading, segment)
    seal = code_plainly(reading, 0, SEAL_BITS)
    if seal != symbols.checksum(segment) or not ended(reading, blob):
        evidence = f"segment {segment} of {symbols.segments}, {len(blob)} bytes"
        raise ArtifactError("a compressed stream is damaged", evidence=evidence)
    return reading, blob


def segments_of(shapes: Sequence[tuple[int, ...]]) -> list[list[CodeBlock]]:
    """Blocks of the matrices of `shapes` in segments: a lead, and then some of about one size."""
    groups: list[list[CodeBlock]] = [[]]
    held, wanted = 0, LEAD_CODES
    for block in blocks_of(shapes):
        if held >= wanted:
            groups.append([])
            held, wanted = 0, SEGMENT_CODES
        groups[-1].append(block)
        held += (block.last - block.first) * shapes[block.part][1]
    return groups


def blocks_of(shapes: Sequence[tuple[int, ...]]) -> Iterator[CodeBlock]:
    """Matrices cut where they are large, the first also where the lead ends; none for a matrix without codes."""
    for part, (rows, columns) in enumerate(shapes):
        size = rows * columns
        lead = -(-LEAD_CODES // columns) if part == 0 and size > SEGMENT_CODES else 0
        pieces = -(-(size - lead * columns) // BLOCK_CODES)
        edges = [lead + (rows - lead) * piece // max(pieces, 1) for piece in range(pieces + 1)]
        for first, last in pairwise([0, *edges] if lead else edges):
            yield CodeBlock(part, first, last)


def step_logs(part: StreamPart, shape: tuple[int, ...]) -> tuple[Integers, Integers]:
    """(rows,) and (columns,) logarithms of the steps of codes, as far as known beforehand, in sixteenths of an octave.

    The bits of an fp16 number, as an integer, are its logarithm but for a bend within each octave.
    """
    logs = [np.zeros(length, np.int64) for length in shape]
    open_axes = [0, 1]
    for array in part.known:
        axis = next((axis for axis in open_axes if array.shape == (shape[axis],)), None)
        if axis is not None and array.dtype in (torch.int8, torch.float16):
            as_integers = array.long() * 2 if array.dtype == torch.int8 else array.view(torch.int16).long() >> 6
            logs[axis] = as_integers.numpy()
            open_axes.remove(axis)
    return logs[0], logs[1]


def trellis_of(part: StreamPart) -> Integers:
    """(states, 2) the state after an even and after an odd code; of no states where codes are of one grid."""
    term = TERMS.get(part.identity)
    if term is None or not issubclass(term, Trellis):
        return np.zeros((0, 2), np.int64)
    return next_states(1 << part.settings[0] // FIRST_TRELLIS_FLAG).astype(np.int64)


def states_before(codes: Integers, after: Integers) -> Integers:
    """(columns,) the state of every column after all rows of `codes`."""
    states = np.zeros(codes.shape[1], np.int64)
    if len(after):
        for parities in codes & 1:
            states = after[states, parities]
    return states
