"""The artifact's container in as few words as its layout allows, for a script that reads what it wrote itself.

The same bytes as `artifact.container` makes, whose `header.py` has the layout; no check of what is read. What tells
reader and writer where an array lies is one function, so that they cannot differ.
"""

import struct
import zlib
from collections.abc import Iterator
from itertools import groupby, islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from paramgolf.artifact.slots import StreamPart
from paramgolf.bundle.stand_ins import SCRIPT_CODER
from paramgolf.parts import Role
from paramgolf.stored import NUMBER_TYPES, Stored, StreamKind, rows_and_columns
from paramgolf.terms import TERMS

Expectation = dict[str, tuple[tuple[int, ...], Role]]
"""Parameter -> shape and role."""
LeanForm = tuple[tuple[int, bytes], ...]
"""Of each term of a tensor, identity and settings."""
LeanArrays = dict[tuple[str, int, int], Tensor]
"""By parameter, number of the term and place in it."""
LEAN_HEAD = "<4sB6sH"
"""Magic, version, digest, length of the body."""


def lean_streams(forms: dict[str, LeanForm], expected: Expectation) -> Iterator[Any]:
    """(kind, role) of each stream and, in order, its arrays: (sort key, term, place in it, piece, part)."""
    kinds, found = [*StreamKind], []
    for name in lean_order(expected):
        shape, role = expected[name]
        for number, (identity, settings) in enumerate(forms[name]):
            for place, piece in enumerate(TERMS[identity].layout(settings, *rows_and_columns(shape))):
                kind = kinds.index(piece.kind)
                shared = piece.kind is StreamKind.SCALES
                label = kind, 0 if shared else 1 + [*Role].index(role)
                # Steps come before the codes that they belong to.
                rank = 2.5 if piece.kind is StreamKind.STEPS else kind
                found.append(((rank, label), (name, number), place, piece, (piece, role, identity, settings)))
    found.sort(key=lambda item: item[0])
    return groupby(found, lambda item: item[0][1])


def lean_order(expected: Expectation) -> list[str]:
    """In place of `canonical_order`."""
    return sorted(expected, key=lambda name: [*Role].index(expected[name][1]))


def lean_number(value: int) -> bytes:
    """`value` as LEB128."""
    return bytes([value]) if value < 128 else bytes([value & 127 | 128]) + lean_number(value >> 7)


def lean_varint(data: Iterator[int]) -> int:
    """The number that stands there as LEB128."""
    byte = next(data)
    return byte & 127 | (lean_varint(data) << 7 if byte > 127 else 0)


def lean_parts(items: list[Any], arrays: LeanArrays) -> list[StreamPart]:
    """What a coder is told of a stream."""
    return [StreamPart(*part, lean_known(arrays, key)) for _, key, _, _, part in items]  # type: ignore[call-arg]


def lean_known(arrays: LeanArrays, key: tuple[str, int]) -> tuple[Tensor, ...]:
    """The arrays of a term so far, in the order of its layout."""
    return tuple(arrays[place] for place in sorted(arrays) if place[:2] == key)


def lean_pack(stored: dict[str, Stored], expected: Expectation, *, coder: Any, digest: str) -> bytes:
    """In place of `pack`."""
    forms = {name: tuple((term.identity, term.settings) for term in stored[name].terms) for name in expected}
    arrays: LeanArrays = {}
    table, blobs, streams, content = b"", b"", 0, 0
    for label, group in lean_streams(forms, expected):
        items = [*group]
        parts, data = lean_parts(items, arrays), b""
        for _, (name, number), place, piece, _ in items:
            arrays[name, number, place] = array = stored[name].terms[number].arrays()[place]
            data += array.numpy().astype(NUMBER_TYPES[piece.kind].numpy).tobytes()
        content = zlib.crc32(data, content)
        if data:
            blob, identity = coder.encode(data, parts), coder.identity
            if len(blob) >= len(data):
                blob, identity = data, 0
            sizes = lean_number(len(blob)) + lean_number(len(data)) + struct.pack("<I", zlib.crc32(blob))
            table += bytes([*label, identity]) + sizes
            blobs += blob
            streams += 1
    runs = [(form, len([*same])) for form, same in groupby(forms[name] for name in lean_order(expected))]
    body = struct.pack("<I", content) + lean_number(len(runs))
    for form, tensors in runs:
        body += lean_number(tensors) + bytes([len(form)])
        for identity, settings in form:
            body += bytes([identity, len(settings)]) + settings
    body += lean_number(streams) + table
    head = struct.pack(LEAN_HEAD, b"PGLF", 1, bytes.fromhex(digest), len(body)) + body
    return head + struct.pack("<I", zlib.crc32(head)) + blobs


def lean_unpack(data: bytes, expected: Expectation, *, digest: str) -> dict[str, Stored]:
    """In place of `unpack`."""
    cursor = iter(data[17:])
    runs = []
    for _ in range(lean_varint(cursor)):
        tensors, terms = lean_varint(cursor), next(cursor)
        form = tuple((next(cursor), bytes(islice(cursor, next(cursor)))) for _ in range(terms))
        runs += [form] * tensors
    forms = dict(zip(lean_order(expected), runs, strict=True))
    sizes = {}
    for _ in range(lean_varint(cursor)):
        *label, identity = islice(cursor, 3)
        sizes[*label,] = identity, lean_varint(cursor), lean_varint(cursor)
        bytes(islice(cursor, 4))
    rest = bytes(cursor)[4:]
    arrays: LeanArrays = {}
    for label, group in lean_streams(forms, expected):
        items = [*group]
        identity, size, length = sizes.get(label, (0, 0, 0))
        blob, rest, start = rest[:size], rest[size:], 0
        if identity:
            blob = SCRIPT_CODER.decode(blob, length, lean_parts(items, arrays))
        for _, key, place, piece, _ in items:
            flat = np.frombuffer(blob[start : start + piece.size], NUMBER_TYPES[piece.kind].numpy)
            arrays[*key, place] = torch.from_numpy(flat.copy()).view(piece.shape)
            start += piece.size
    return {
        name: Stored(
            expected[name][0],
            tuple(
                TERMS[identity].rebuild(settings, lean_known(arrays, (name, number)))
                for number, (identity, settings) in enumerate(forms[name])
            ),
        )
        for name in expected
    }
