"""The artifact's container in as few words as its layout allows, for a script that reads what it wrote itself.

The same bytes as `artifact.container` makes, whose `header.py` has the layout; no check of what is read. What tells
reader and writer where an array lies is one function, so that they cannot differ.
"""

import struct
import zlib
from collections.abc import Iterator
from itertools import groupby, islice
from typing import Any

import torch
from torch import Tensor

from paramgolf.artifact.slots import StreamPart
from paramgolf.bundle.stand_ins import SCRIPT_CODER
from paramgolf.parts import Role
from paramgolf.stored import NUMBER_TYPES, Piece, Stored, StreamKind, rows_and_columns
from paramgolf.terms import TERMS

Expectation = dict[str, tuple[tuple[int, ...], Role]]
"""Parameter -> shape and role."""
LeanForms = dict[str, tuple[tuple[int, bytes], ...]]
"""Parameter -> of each of its terms, identity and settings."""
LeanArrays = dict[tuple[str, int, int], Tensor]
"""By parameter, number of the term and place in it."""
LeanItem = tuple[tuple[int, int], str, int, int, Piece]
"""Stream of an array, its key in `LeanArrays`, type and shape."""


def lean_streams(forms: LeanForms, expected: Expectation) -> Iterator[tuple[tuple[int, int], list[LeanItem]]]:
    """(kind, role) of each stream and its arrays, in order."""
    found = [
        (lean_label(piece.kind, expected[name][1]), name, number, place, piece)
        for name in lean_order(expected)
        for number, (identity, settings) in enumerate(forms[name])
        for place, piece in enumerate(TERMS[identity].layout(settings, *rows_and_columns(expected[name][0])))
    ]
    streams = groupby(sorted(found, key=lambda item: lean_rank(item[0], item[4])), lambda item: item[0])
    return ((label, [*items]) for label, items in streams)


def lean_label(kind: StreamKind, role: Role) -> tuple[int, int]:
    """What the file calls the stream of such an array; scales of all roles lie together."""
    return [*StreamKind].index(kind), 0 if kind is StreamKind.SCALES else 1 + [*Role].index(role)


def lean_rank(label: tuple[int, int], piece: Piece) -> tuple[float, int]:
    """Streams lie by kind and role, but steps before the codes that they belong to."""
    return (2.5, label[1]) if piece.kind is StreamKind.STEPS else label


def lean_order(expected: Expectation) -> list[str]:
    """In place of `canonical_order`."""
    return sorted(expected, key=lambda name: 1 + [*Role].index(expected[name][1]))


def lean_number(value: int) -> bytes:
    """`value` as LEB128."""
    return bytes([value]) if value < 128 else bytes([value & 127 | 128]) + lean_number(value >> 7)


def lean_varint(data: Iterator[int]) -> int:
    """The number that stands there as LEB128."""
    byte = next(data)
    return byte & 127 | (lean_varint(data) << 7 if byte > 127 else 0)


def lean_parts(items: list[LeanItem], arrays: LeanArrays, forms: LeanForms, expected: Expectation) -> list[StreamPart]:
    """What a coder is told of a stream."""
    return [
        StreamPart(piece, expected[name][1], *forms[name][number], lean_known(arrays, name, number))
        for _, name, number, _, piece in items
    ]


def lean_known(arrays: LeanArrays, name: str, number: int) -> tuple[Tensor, ...]:
    """The arrays of a term so far, in the order of its layout."""
    return tuple(arrays[key] for key in sorted(arrays) if key[:2] == (name, number))


def lean_sum(data: bytes, before: int = 0) -> bytes:
    """A checksum, going on from `before`."""
    return struct.pack("<I", zlib.crc32(data, before))


def lean_pack(stored: dict[str, Stored], expected: Expectation, *, coder: Any, digest: str) -> bytes:
    """In place of `pack`; no array of a script is empty."""
    forms = {name: tuple((term.identity, term.settings) for term in stored[name].terms) for name in expected}
    arrays: LeanArrays = {}
    table, blobs, streams, content = b"", b"", 0, 0
    for label, items in lean_streams(forms, expected):
        parts, data = lean_parts(items, arrays, forms, expected), b""
        for _, name, number, place, _ in items:
            arrays[name, number, place] = array = stored[name].terms[number].arrays()[place]
            data += array.numpy().tobytes()
        content = zlib.crc32(data, content)
        blob, identity = coder.encode(data, parts), coder.identity
        if len(blob) >= len(data):
            blob, identity = data, 0
        table += bytes([*label, identity]) + lean_number(len(blob)) + lean_number(len(data)) + lean_sum(blob)
        blobs += blob
        streams += 1
    runs = [(form, len([*same])) for form, same in groupby(forms[name] for name in lean_order(expected))]
    body = struct.pack("<I", content) + lean_number(len(runs))
    for form, tensors in runs:
        body += lean_number(tensors) + bytes([len(form)])
        for identity, settings in form:
            body += bytes([identity, len(settings)]) + settings
    body += lean_number(streams) + table
    head = b"PGLF\1" + bytes.fromhex(digest) + struct.pack("<H", len(body)) + body
    return head + lean_sum(head) + blobs


def lean_unpack(data: bytes, expected: Expectation, *, digest: str) -> dict[str, Stored]:
    """In place of `unpack`."""
    cursor, rest = iter(data[17:]), data[17 + int.from_bytes(data[11:13], "little") :]
    runs = []
    for _ in range(lean_varint(cursor)):
        tensors = lean_varint(cursor)
        runs += [tuple((next(cursor), bytes(islice(cursor, next(cursor)))) for _ in range(next(cursor)))] * tensors
    forms = dict(zip(lean_order(expected), runs, strict=True))
    lean_varint(cursor)
    arrays: LeanArrays = {}
    for _, items in lean_streams(forms, expected):
        _, _, identity = islice(cursor, 3)
        size, length, _ = lean_varint(cursor), lean_varint(cursor), [*islice(cursor, 4)]
        blob, rest = rest[:size], rest[size:]
        if identity:
            blob = SCRIPT_CODER.decode(blob, length, lean_parts(items, arrays, forms, expected))
        for _, name, number, place, piece in items:
            flat = torch.frombuffer(bytearray(blob[: piece.size]), dtype=NUMBER_TYPES[piece.kind])
            arrays[name, number, place], blob = flat.view(piece.shape), blob[piece.size :]
    return {
        name: Stored(
            expected[name][0],
            tuple(
                TERMS[identity].rebuild(settings, lean_known(arrays, name, number))
                for number, (identity, settings) in enumerate(forms[name])
            ),
        )
        for name in expected
    }
