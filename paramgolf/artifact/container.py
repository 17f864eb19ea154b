"""The artifact: stored weights to bytes and back. No names, no shapes, no code in the file.

The reader brings what it expects, from a fresh model: names, shapes and roles in order of declaration. From these and
the terms that the header lists it computes the length of every stream, so that a damaged or hostile file can neither
make it allocate more than the model implies nor run anything. `header.py` has the layout.
"""

import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from paramgolf.artifact.header import (
    DIGEST_BYTES,
    KIND_IDS,
    MEND_ARTIFACT,
    ROLE_IDS,
    UNCOMPRESSED,
    ArtifactHeader,
    FormRun,
    StreamEntry,
    StreamLabel,
    TensorForm,
    TermForm,
    artifact_header_bytes,
    read_artifact_header,
)
from paramgolf.artifact.slots import Coder, coder_of
from paramgolf.artifact.zlib_coder import ZlibCoder
from paramgolf.errors import ArtifactError
from paramgolf.parts import Role, declared
from paramgolf.stored import NUMBER_TYPES, Piece, Stored, StreamKind, rows_and_columns
from paramgolf.terms import TERMS


@dataclass(frozen=True, kw_only=True)
class ArtifactConfig:
    """How stored weights become bytes."""

    coder: Coder = ZlibCoder()
    """Compresses every stream that it makes shorter."""


class Expected(NamedTuple):
    """What a model says of one of its parameters."""

    shape: tuple[int, ...]
    role: Role


def expected_of(model: nn.Module) -> dict[str, Expected]:
    """What an artifact of `model` must hold, in order of declaration."""
    return {name: Expected(tuple(parameter.shape), role) for name, parameter, role in declared(model)}


def pack(stored: Mapping[str, Stored], expected: Mapping[str, Expected], *, coder: Coder | None, digest: str) -> bytes:
    """The artifact of `stored`; the same input gives the same bytes.

    `digest` is that of the model's config, 12 hexadecimal characters. Without a coder nothing is compressed.
    """
    assert stored.keys() == expected.keys(), sorted(stored.keys() ^ expected.keys())
    forms: list[TensorForm] = []
    parts: dict[StreamLabel, list[bytes]] = {}
    for name in canonical_order(expected):
        shape, role = expected[name]
        assert stored[name].shape == shape, (name, stored[name].shape, shape)
        forms.append(tuple(TermForm(term.identity, term.settings) for term in stored[name].terms))
        for form, term in zip(forms[-1], stored[name].terms, strict=True):
            for piece, array in zip(pieces_of(form, shape), term.arrays(), strict=True):
                assert tuple(array.shape) == piece.shape, (name, array.shape, piece.shape)
                parts.setdefault(label_of(piece, role), []).append(to_bytes(array, piece.kind))
    raw = {label: b"".join(parts[label]) for label in sorted(parts)}
    raw = {label: data for label, data in raw.items() if data}
    blobs, entries = [], []
    for label, data in raw.items():
        identity, blob = shorter(data, coder)
        blobs.append(blob)
        entries.append(StreamEntry(label, identity, len(blob), len(data), zlib.crc32(blob)))
    header = ArtifactHeader(digest_bytes(digest), running_checksum(raw.values()), runs_of(forms), tuple(entries))
    return artifact_header_bytes(header) + b"".join(blobs)


def unpack(
    data: bytes, expected: Mapping[str, Expected], *, digest: str | None = None, coders: Sequence[Coder] = ()
) -> dict[str, Stored]:
    """The stored weights in the artifact `data`, in the order of `expected`.

    With `digest`, an artifact of another config is refused. `coders` are tried before the registered ones. Raises
    `ArtifactError` saying what is wrong and where, whatever `data` is.
    """
    header, start = read_artifact_header(data)
    refuse_other_config(header, digest)
    order = canonical_order(expected)
    forms = dict(zip(order, forms_of(header, len(order)), strict=True))
    refuse_other_streams(header, stream_sizes(forms, expected))
    streams = decode_streams(data, start, header, coders)
    places = dict.fromkeys(streams, 0)
    stored = {}
    for name in order:
        shape, role = expected[name]
        terms = []
        for form in forms[name]:
            arrays = []
            for piece in pieces_of(form, shape):
                label = label_of(piece, role)
                arrays.append(from_bytes(streams.get(label, b""), places.get(label, 0), piece, name))
                places[label] = places.get(label, 0) + piece.size
            terms.append(TERMS[form.identity].rebuild(form.settings, tuple(arrays)))
        stored[name] = Stored(shape, tuple(terms))
    return {name: stored[name] for name in expected}


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


def runs_of(forms: Sequence[TensorForm]) -> tuple[FormRun, ...]:
    """`forms` run by run."""
    runs: list[FormRun] = []
    for form in forms:
        if runs and runs[-1].form == form:
            runs[-1] = FormRun(runs[-1].tensors + 1, form)
        else:
            runs.append(FormRun(1, form))
    return tuple(runs)


def forms_of(header: ArtifactHeader, tensors: int) -> list[TensorForm]:
    """The form of each of the `tensors` of a model. Raises `ArtifactError` when the header has another number."""
    held = sum(run.tensors for run in header.runs)
    if held != tensors:
        raise ArtifactError(
            "the artifact is of another model",
            evidence=f"it holds {held} tensors, the model {tensors}",
            fix="give the config that it was exported with",
        )
    return [run.form for run in header.runs for _ in range(run.tensors)]


def stream_sizes(forms: Mapping[str, TensorForm], expected: Mapping[str, Expected]) -> dict[StreamLabel, int]:
    """Decoded bytes of every stream that is not empty, in the order of the file."""
    sizes: dict[StreamLabel, int] = {}
    for name, form in forms.items():
        for term in form:
            for piece in pieces_of(term, expected[name].shape):
                label = label_of(piece, expected[name].role)
                sizes[label] = sizes.get(label, 0) + piece.size
    return {label: sizes[label] for label in sorted(sizes) if sizes[label]}


def refuse_other_config(header: ArtifactHeader, digest: str | None) -> None:
    """Raise `ArtifactError` when the artifact was exported under another config than `digest`."""
    if digest is not None and header.digest != digest_bytes(digest):
        raise ArtifactError(
            "the artifact belongs to another config",
            evidence=f"it was exported under {header.digest.hex()}, this is {digest}",
            fix="give the config.toml of the run that exported it",
        )


def refuse_other_streams(header: ArtifactHeader, sizes: Mapping[StreamLabel, int]) -> None:
    """Raise `ArtifactError` unless the streams are those that the model and the listed terms imply."""
    listed = [(entry.label, entry.raw_size) for entry in header.streams]
    if listed != list(sizes.items()):
        held = ", ".join(f"{label} {size:,}" for label, size in listed[:6])
        wanted = ", ".join(f"{label} {size:,}" for label, size in list(sizes.items())[:6])
        raise ArtifactError(
            "the artifact is of another model",
            evidence=f"it holds (bytes) {held or 'nothing'}; the model wants {wanted or 'nothing'}",
            fix="give the config that it was exported with",
        )


def decode_streams(
    data: bytes, start: int, header: ArtifactHeader, coders: Sequence[Coder]
) -> dict[StreamLabel, bytes]:
    """Every stream, decoded; the first begins at byte `start`. Raises `ArtifactError` naming a damaged one."""
    streams: dict[StreamLabel, bytes] = {}
    for entry in header.streams:
        blob = data[start : start + entry.size]
        where = f"stream {entry.label!s}, bytes {start} to {start + entry.size}"
        if zlib.crc32(blob) != entry.checksum:
            raise ArtifactError(
                "the artifact is damaged",
                evidence=f"{where}: CRC-32 {zlib.crc32(blob):08x}, recorded {entry.checksum:08x}",
                fix=MEND_ARTIFACT,
            )
        try:
            streams[entry.label] = decoded(blob, entry, coders)
        except ArtifactError as error:
            evidence = "; ".join(filter(None, (where, error.evidence)))
            raise ArtifactError(error.cause, evidence=evidence, fix=error.fix or MEND_ARTIFACT) from None
        start += entry.size
    if running_checksum(streams.values()) != header.content:
        raise ArtifactError(
            "the artifact decodes to other weights than were exported",
            evidence=f"CRC-32 {running_checksum(streams.values()):08x}, recorded {header.content:08x}",
            fix="a coder behaves differently here than where it was exported: compare library versions",
        )
    return streams


def decoded(blob: bytes, entry: StreamEntry, coders: Sequence[Coder]) -> bytes:
    """The bytes that `blob` stands for."""
    if entry.coder != UNCOMPRESSED:
        return coder_of(entry.coder, coders).decode(blob, entry.raw_size)
    if len(blob) != entry.raw_size:
        raise ArtifactError("an uncompressed stream has the wrong length", evidence=f"wanted {entry.raw_size:,} bytes")
    return blob


def shorter(data: bytes, coder: Coder | None) -> tuple[int, bytes]:
    """`data` compressed by `coder`, or as it is where that is no longer; first the identity for the header."""
    if coder is not None and len(blob := coder.encode(data)) < len(data):
        return coder.identity, blob
    return UNCOMPRESSED, data


def to_bytes(array: Tensor, kind: StreamKind) -> bytes:
    """The numbers of `array`, row by row."""
    return array.numpy().astype(NUMBER_TYPES[kind].numpy, order="C", copy=False).tobytes()


def from_bytes(stream: bytes, place: int, piece: Piece, name: str) -> Tensor:
    """The array `piece` of parameter `name` that begins at byte `place` of its decoded stream.

    Raises `ArtifactError` when it holds NaN or infinity.
    """
    numbers = NUMBER_TYPES[piece.kind]
    flat = np.frombuffer(stream, numbers.numpy, piece.size // numbers.torch.itemsize, place)
    if not np.isfinite(flat).all():
        raise ArtifactError(f"stored weight {name} holds NaN or infinity", evidence=f"{piece.kind.value}, byte {place}")
    return torch.from_numpy(flat.astype(flat.dtype.newbyteorder("="))).reshape(piece.shape)


def running_checksum(blobs: Iterable[bytes]) -> int:
    """CRC-32 of `blobs` one after another."""
    checksum = 0
    for blob in blobs:
        checksum = zlib.crc32(blob, checksum)
    return checksum


def digest_bytes(digest: str) -> bytes:
    """The 6 bytes of a digest of 12 hexadecimal characters; `ValueError` for anything else."""
    as_bytes = bytes.fromhex(digest)
    if len(as_bytes) != DIGEST_BYTES:
        raise ValueError(f"a digest has {2 * DIGEST_BYTES} hexadecimal characters, unlike {digest!r}")
    return as_bytes
