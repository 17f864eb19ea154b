"""Where every array of every stored weight lies in the streams of an artifact."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from paramgolf.artifact.header import KIND_IDS, ROLE_IDS, StreamLabel, TensorForm, TermForm
from paramgolf.artifact.slots import StreamPart
from paramgolf.errors import ArtifactError
from paramgolf.parts import Role
from paramgolf.stored import FILE_TYPES, NUMBER_TYPES, Piece, StreamKind, rows_and_columns
from paramgolf.terms import TERMS


class Expected(NamedTuple):
    """What a model says of one of its parameters."""

    shape: tuple[int, ...]
    role: Role


class ArrayKey(NamedTuple):
    """One array of a model's stored weights."""

    name: str
    """Of the parameter."""
    term: int
    """Place of the term in the sum."""
    place: int
    """Of the array in the term."""


class Placement(NamedTuple):
    """An array with its form and the stream it lies in."""

    key: ArrayKey
    form: TermForm
    piece: Piece
    role: Role
    label: StreamLabel
    start: int
    """Its first byte in the decoded stream."""


def placements(forms: Mapping[str, TensorForm], expected: Mapping[str, Expected]) -> dict[StreamLabel, list[Placement]]:
    """The arrays of every stream, one after another; `forms` in canonical order, streams in the order of the file.

    A stream may be of no bytes at all. Raises `ArtifactError` when a form is of no term.
    """
    streams: dict[StreamLabel, list[Placement]] = {}
    for name, form in forms.items():
        shape, role = expected[name]
        for number, term in enumerate(form):
            for place, piece in enumerate(pieces_of(term, shape)):
                label = label_of(piece, role)
                before = streams.setdefault(label, [])
                start = before[-1].start + before[-1].piece.size if before else 0
                before.append(Placement(ArrayKey(name, number, place), term, piece, role, label, start))
    return {label: streams[label] for label in sorted(streams, key=lambda label: label.rank)}


def stream_sizes(streams: Mapping[StreamLabel, Sequence[Placement]]) -> dict[StreamLabel, int]:
    """Decoded bytes of every stream that is not empty."""
    sizes = {label: sum(item.piece.size for item in stream) for label, stream in streams.items()}
    return {label: size for label, size in sizes.items() if size}


def by_term(arrays: Mapping[ArrayKey, Tensor]) -> dict[tuple[str, int], tuple[Tensor, ...]]:
    """The arrays of every term, in the order of its layout, by parameter and place of the term."""
    terms: dict[tuple[str, int], tuple[Tensor, ...]] = {}
    for key in sorted(arrays):
        terms[key.name, key.term] = (*terms.get((key.name, key.term), ()), arrays[key])
    return terms


def parts_of(stream: Iterable[Placement], arrays: Mapping[ArrayKey, Tensor]) -> list[StreamPart]:
    """What a coder is told of a stream; `arrays` are those of the streams before it, for reader and writer alike."""
    known = by_term(arrays)
    return [
        StreamPart(item.piece, item.role, item.form.identity, item.form.settings, known.get(item.key[:2], ()))
        for item in stream
    ]


def canonical_order(expected: Mapping[str, Expected]) -> list[str]:
    """Names by role, then by declaration: like goes with like, and tensors of one form stand together."""
    return sorted(expected, key=lambda name: ROLE_IDS.index(expected[name].role))


def label_of(piece: Piece, role: Role) -> StreamLabel:
    """The stream that an array of a parameter of `role` goes to: one for each kind and role, but one for all scales."""
    shared = piece.kind is StreamKind.SCALES
    return StreamLabel(KIND_IDS.index(piece.kind), ROLE_IDS.index(None if shared else role))


def pieces_of(form: TermForm, shape: tuple[int, ...]) -> tuple[Piece, ...]:
    """The arrays of a term of a weight of `shape`. Raises `ArtifactError` when there is no such term."""
    if form.identity not in TERMS:
        raise ArtifactError(
            f"the artifact uses a kind of term, {form.identity}, that this program does not know",
            fix="read it with the version that wrote it",
        )
    try:
        return TERMS[form.identity].layout(form.settings, *rows_and_columns(shape))
    except ValueError as error:
        raise ArtifactError("the header of the artifact describes no term", evidence=str(error)) from None


def to_bytes(array: Tensor, kind: StreamKind) -> bytes:
    """The numbers of `array`, row by row."""
    return array.numpy().astype(FILE_TYPES[kind], order="C", copy=False).tobytes()


def from_bytes(stream: bytes, item: Placement) -> Tensor:
    """The array `item` of its decoded stream. Raises `ArtifactError` when it holds NaN or infinity."""
    kind = item.piece.kind
    flat = np.frombuffer(stream, FILE_TYPES[kind], item.piece.size // NUMBER_TYPES[kind].itemsize, item.start)
    if not np.isfinite(flat).all():
        raise ArtifactError(
            f"stored weight {item.key.name} holds NaN or infinity",
            evidence=f"{item.piece.kind.value}, byte {item.start}",
        )
    return torch.from_numpy(flat.astype(flat.dtype.newbyteorder("="))).reshape(item.piece.shape)
