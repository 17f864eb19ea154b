"""Damaged, truncated and hostile artifacts: always an `ArtifactError`, never much memory."""

import random
import tracemalloc
import zlib
from functools import cache

import pytest
from golden_set import CODERS, DIGEST, golden_stored
from hypothesis import given, settings
from hypothesis import strategies as st

from paramgolf.artifact.container import pack, unpack
from paramgolf.artifact.header import (
    CHECKSUM,
    HEADER_PREFIX,
    ArtifactHeader,
    FormRun,
    TermForm,
    artifact_header_bytes,
    read_artifact_header,
)
from paramgolf.errors import ArtifactError


@cache
def whole(coder):
    stored, expected = golden_stored()
    return pack(stored, expected, coder=CODERS[coder], digest=DIGEST)


def read(data):
    return unpack(data, golden_stored()[1], digest=DIGEST)


@pytest.mark.parametrize("coder", CODERS)
def test_every_changed_byte_is_noticed(coder):
    data, expected, generator = whole(coder), golden_stored()[1], random.Random(0)
    for place, byte in enumerate(data):
        for change in generator.sample(range(1, 256), 3):
            changed = data[:place] + bytes([byte ^ change]) + data[place + 1 :]
            with pytest.raises(ArtifactError):
                unpack(changed, expected, digest=DIGEST)


@pytest.mark.parametrize("coder", CODERS)
def test_every_truncation_is_noticed(coder):
    data, expected = whole(coder), golden_stored()[1]
    for end in range(len(data)):
        with pytest.raises(ArtifactError):
            unpack(data[:end], expected)


@pytest.mark.parametrize("tail", [b"\x00", b"\n", b"PGLF", bytes(1000)])
def test_what_goes_on_is_noticed(tail):
    with pytest.raises(ArtifactError, match="goes on") as caught:
        read(whole("zlib") + tail)
    assert f"{len(whole('zlib')) + len(tail):,} bytes" in caught.value.evidence


def test_errors_say_what_and_where():
    data = whole("raw")
    _, start = read_artifact_header(data)
    with pytest.raises(ArtifactError, match="not an artifact") as caught:
        read(b"\x80\x04\x95 a pickle")
    assert "paramgolf export" in caught.value.fix
    with pytest.raises(ArtifactError, match="format version 9"):
        read(data[:4] + b"\x09" + data[5:])
    with pytest.raises(ArtifactError, match="truncated"):
        read(data[:-1])
    with pytest.raises(ArtifactError, match="header of the artifact is damaged"):
        read(data[:20] + b"\xff" + data[21:])
    with pytest.raises(ArtifactError, match="artifact is damaged") as caught:
        read(data[: start + 20] + bytes([data[start + 20] ^ 1]) + data[start + 21 :])
    assert f"stream embed halves, bytes {start + 16} to {start + 208}" in caught.value.evidence
    assert caught.value.fix


@given(st.binary(max_size=300))
def test_random_bytes(data):
    with pytest.raises(ArtifactError):
        read(data)


@given(st.binary(max_size=300), st.booleans())
def test_random_headers_with_good_checksums(body, known):
    digest = bytes.fromhex(DIGEST) if known else b"\x00" * 6
    prefixed = HEADER_PREFIX.pack(b"PGLF", 1, digest, len(body)) + body
    with pytest.raises(ArtifactError):
        read(prefixed + CHECKSUM.pack(zlib.crc32(prefixed)))


def sealed(header, blobs):
    """An artifact whose checksums are all good."""
    entries = [
        entry._replace(size=len(blob), checksum=zlib.crc32(blob))
        for entry, blob in zip(header.streams, blobs, strict=True)
    ]
    return artifact_header_bytes(header._replace(streams=tuple(entries))) + b"".join(blobs)


def opened(coder):
    """Header and streams of the golden artifact, as they are in the file."""
    data = whole(coder)
    header, start = read_artifact_header(data)
    blobs = []
    for entry in header.streams:
        blobs.append(data[start : start + entry.size])
        start += entry.size
    return header, blobs


def test_sealing_changes_nothing():
    for coder in CODERS:
        assert sealed(*opened(coder)) == whole(coder)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(sorted(CODERS)), st.data())
def test_mutations_with_good_checksums(coder, draw):
    """A hostile writer gets past the checksums; what it reaches is an error or weights of the model's own shapes."""
    header, blobs = opened(coder)
    for _ in range(draw.draw(st.integers(1, 4))):
        which = draw.draw(st.integers(0, len(blobs) - 1))
        blob = bytearray(blobs[which])
        if blob and draw.draw(st.booleans()):
            blob[draw.draw(st.integers(0, len(blob) - 1))] = draw.draw(st.integers(0, 255))
        else:
            cut = draw.draw(st.integers(0, len(blob)))
            blob = blob[:cut] + draw.draw(st.binary(max_size=40)) + blob[cut + draw.draw(st.integers(0, 3)) :]
        blobs[which] = bytes(blob)
        entries = list(header.streams)
        entries[which] = entries[which]._replace(
            coder=draw.draw(st.sampled_from([entries[which].coder, 0, 1, 2, 3, 4, 5, 9]))
        )
        header = header._replace(streams=tuple(entries), content=draw.draw(st.sampled_from([header.content, 0])))
    expected = golden_stored()[1]
    try:
        weights = unpack(sealed(header, blobs), expected)
    except ArtifactError:
        return
    assert {name: weight.shape for name, weight in weights.items()} == {
        name: weight.shape for name, weight in expected.items()
    }


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_mutated_header_bodies_with_good_checksums(draw):
    data = whole("raw")
    _, start = read_artifact_header(data)
    body = bytearray(data[HEADER_PREFIX.size : start - 4])
    for _ in range(draw.draw(st.integers(1, 3))):
        place = draw.draw(st.integers(0, len(body) - 1))
        size = draw.draw(st.integers(0, 3))
        body[place : place + size] = draw.draw(st.binary(max_size=4))
    prefixed = HEADER_PREFIX.pack(b"PGLF", 1, bytes.fromhex(DIGEST), len(body)) + bytes(body)
    try:
        read(prefixed + CHECKSUM.pack(zlib.crc32(prefixed)) + data[start:])
    except ArtifactError:
        return
    # Nothing but a spelling of the same may pass: the decoded content still has its checksum.
    assert body[:4] == data[HEADER_PREFIX.size : HEADER_PREFIX.size + 4]


def test_numbers_that_are_none_are_refused_by_name():
    header, blobs = opened("raw")
    blobs[0] = blobs[0][:4] + b"\x00\x00\xc0\x7f" + blobs[0][8:]
    data = sealed(header._replace(content=zlib.crc32(b"".join(blobs))), blobs)
    with pytest.raises(ArtifactError, match="stored weight mix holds NaN"):
        read(data)


def test_content_that_decodes_otherwise_is_refused():
    header, blobs = opened("raw")
    blobs[3] = bytes([blobs[3][0] ^ 1]) + blobs[3][1:]
    with pytest.raises(ArtifactError, match="decodes to other weights"):
        read(sealed(header, blobs))


@pytest.mark.parametrize("coder", [name for name in CODERS if name != "raw"])
def test_bombs_do_not_go_off(coder):
    """A long stream that claims to be one of some hundred bytes."""
    # The slow coder gets a smaller one, and is allowed the model that it has of any stream.
    size, most = (1 << 20, 1 << 25) if coder == "mixing" else (1 << 26, 1 << 20)
    bomb = CODERS[coder].encode(bytes(size))
    header, blobs = opened(coder)
    which = max(range(len(blobs)), key=lambda place: header.streams[place].raw_size)
    data = sealed(header, [bomb if place == which else blob for place, blob in enumerate(blobs)])
    tracemalloc.start()
    with pytest.raises(ArtifactError, match="compressed stream"):
        read(data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < most, peak


@pytest.mark.parametrize(
    ("run", "cause"),
    [
        (FormRun(2**34, (TermForm(1, b"\x20"),)), "another model"),
        (FormRun(8, (TermForm(1, b"\x40"),)), "describes no term"),
        (FormRun(8, (TermForm(77, b""),)), "kind of term, 77"),
        (FormRun(8, (TermForm(1, b"\x20"),) * 5), "names something unknown"),
    ],
)
def test_headers_that_ask_for_too_much(run, cause):
    header, _ = opened("raw")
    data = artifact_header_bytes(ArtifactHeader(header.digest, 0, (run,), ()))
    tracemalloc.start()
    with pytest.raises(ArtifactError, match=cause):
        read(data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 20, peak


def test_a_count_without_end_is_refused():
    body = CHECKSUM.pack(0) + b"\xff\xff\xff\xff\x7f" + b"\x01\x00" * 20
    prefixed = HEADER_PREFIX.pack(b"PGLF", 1, bytes.fromhex(DIGEST), len(body)) + body
    with pytest.raises(ArtifactError, match="truncated or its header damaged"):
        read(prefixed + CHECKSUM.pack(zlib.crc32(prefixed)))
