"""The artifact: stored weights to bytes and back. No names, no shapes, no code in the file.

The reader brings what it expects, from a fresh model: names, shapes and roles in order of declaration. From these and
the terms that the header lists it computes the length of every stream, so that a damaged or hostile file can neither
make it allocate more than the model implies nor run anything. `header.py` has the layout.
"""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from paramgolf.artifact.arrangement import (
    ArrayKey,
    Expected,
    Placement,
    by_term,
    canonical_order,
    from_bytes,
    parts_of,
    placements,
    stream_sizes,
    to_bytes,
)
from paramgolf.artifact.header import (
    DIGEST_BYTES,
    MEND_ARTIFACT,
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
from paramgolf.artifact.slots import Coder, StreamPart, coder_of
from paramgolf.artifact.zlib_coder import ZlibCoder
from paramgolf.errors import ArtifactError
from paramgolf.parts import kept_parameters
from paramgolf.stored import Stored
from paramgolf.terms import TERMS


@dataclass(frozen=True, kw_only=True)
class ArtifactConfig:
    """How stored weights become bytes."""

    coder: Coder = ZlibCoder()
    """Compresses every stream that it makes shorter."""


def expected_of(model: nn.Module) -> dict[str, Expected]:
    """What an artifact of `model` must hold, in order of declaration."""
    return {name: Expected(tuple(parameter.shape), role) for name, parameter, role in kept_parameters(model)}


def pack(stored: Mapping[str, Stored], expected: Mapping[str, Expected], *, coder: Coder | None, digest: str) -> bytes:
    """The artifact of `stored`; the same input gives the same bytes.

    `digest` is that of the model's config, 12 hexadecimal characters. Without a coder nothing is compressed.
    """
    assert stored.keys() == expected.keys(), sorted(stored.keys() ^ expected.keys())
    assert all(weight.shape == expected[name].shape for name, weight in stored.items())
    forms = {name: form_of(stored[name]) for name in canonical_order(expected)}
    arrays: dict[ArrayKey, Tensor] = {}
    blobs, entries, content = [], [], 0
    for label, stream in placements(forms, expected).items():
        found = arrays_of(stream, stored)
        data = b"".join(to_bytes(array, item.piece.kind) for array, item in zip(found, stream, strict=True))
        if data:
            identity, blob = shorter(data, parts_of(stream, arrays), coder)
            blobs.append(blob)
            entries.append(StreamEntry(label, identity, len(blob), len(data), zlib.crc32(blob)))
        content = zlib.crc32(data, content)
        arrays |= {item.key: array for array, item in zip(found, stream, strict=True)}
    header = ArtifactHeader(digest_bytes(digest), content, runs_of(list(forms.values())), tuple(entries))
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
    streams = placements(forms, expected)
    refuse_other_streams(header, stream_sizes(streams))
    arrays = decoded_arrays(data, start, header, streams, coders)
    found = by_term(arrays)
    stored = {}
    for name in expected:
        terms = (
            TERMS[form.identity].rebuild(form.settings, found[name, number]) for number, form in enumerate(forms[name])
        )
        stored[name] = Stored(expected[name].shape, tuple(terms))
    return stored


def form_of(weight: Stored) -> TensorForm:
    """All that an artifact says of `weight`."""
    return tuple(TermForm(term.identity, term.settings) for term in weight.terms)


def arrays_of(stream: Sequence[Placement], stored: Mapping[str, Stored]) -> list[Tensor]:
    """The arrays that lie in `stream`."""
    found = []
    for item in stream:
        array = stored[item.key.name].terms[item.key.term].arrays()[item.key.place]
        assert tuple(array.shape) == item.piece.shape, (item.key, array.shape, item.piece.shape)
        found.append(array)
    return found


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


def decoded_arrays(
    data: bytes,
    start: int,
    header: ArtifactHeader,
    streams: Mapping[StreamLabel, Sequence[Placement]],
    coders: Sequence[Coder],
) -> dict[ArrayKey, Tensor]:
    """Every array; the first stream begins at byte `start`. Raises `ArtifactError` naming a damaged stream."""
    arrays: dict[ArrayKey, Tensor] = {}
    entries = {entry.label: entry for entry in header.streams}
    content = 0
    for label, stream in streams.items():
        decoded = b""
        if entry := entries.get(label):
            decoded = decoded_stream(data[start : start + entry.size], start, entry, parts_of(stream, arrays), coders)
            start += entry.size
        content = zlib.crc32(decoded, content)
        arrays |= {item.key: from_bytes(decoded, item) for item in stream}
    if content != header.content:
        raise ArtifactError(
            "the artifact decodes to other weights than were exported",
            evidence=f"CRC-32 {content:08x}, recorded {header.content:08x}",
            fix="a coder behaves differently here than where it was exported: compare library versions",
        )
    return arrays


def decoded_stream(
    blob: bytes, start: int, entry: StreamEntry, parts: Sequence[StreamPart], coders: Sequence[Coder]
) -> bytes:
    """The bytes that `blob`, at byte `start` of the artifact, stands for. Raises `ArtifactError`."""
    where = f"stream {entry.label!s}, bytes {start} to {start + entry.size}"
    if zlib.crc32(blob) != entry.checksum:
        raise ArtifactError(
            "the artifact is damaged",
            evidence=f"{where}: CRC-32 {zlib.crc32(blob):08x}, recorded {entry.checksum:08x}",
            fix=MEND_ARTIFACT,
        )
    try:
        if entry.coder != UNCOMPRESSED:
            return coder_of(entry.coder, coders).decode(blob, entry.raw_size, parts)
        if len(blob) != entry.raw_size:
            wanted = f"wanted {entry.raw_size:,} bytes"
            raise ArtifactError("an uncompressed stream has the wrong length", evidence=wanted)
        return blob
    except ArtifactError as error:
        evidence = "; ".join(filter(None, (where, error.evidence)))
        raise ArtifactError(error.cause, evidence=evidence, fix=error.fix or MEND_ARTIFACT) from None


def shorter(data: bytes, parts: Sequence[StreamPart], coder: Coder | None) -> tuple[int, bytes]:
    """`data` compressed by `coder`, or as it is where that is no longer; first the identity for the header."""
    if coder is not None and len(blob := coder.encode(data, parts)) < len(data):
        return coder.identity, blob
    return UNCOMPRESSED, data


def digest_bytes(digest: str) -> bytes:
    """The 6 bytes of a digest of 12 hexadecimal characters; `ValueError` for anything else."""
    as_bytes = bytes.fromhex(digest)
    if len(as_bytes) != DIGEST_BYTES:
        raise ValueError(f"a digest has {2 * DIGEST_BYTES} hexadecimal characters, unlike {digest!r}")
    return as_bytes
