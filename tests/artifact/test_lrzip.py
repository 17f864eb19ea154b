import shutil

import numpy as np
import pytest

from paramgolf.artifact.slots import StreamPart
from paramgolf.errors import ArtifactError, UsageError
from paramgolf.parts import Role
from paramgolf.stored import Piece, StreamKind
from paramgolf.techniques.artifact import LrzipCoder
from paramgolf.techniques.artifact.lrzip_coder import turned

installed = pytest.mark.skipif(shutil.which("lrzip") is None, reason="the program lrzip is not installed")


def two_matrices():
    shapes = ((40, 30), (7, 5))
    parts = [StreamPart(Piece(StreamKind.WIDE_CODES, shape), Role.MLP, 2, b"\x0c") for shape in shapes]
    numbers = [np.arange(rows * columns, dtype="<i2").reshape(rows, columns) % 50 for rows, columns in shapes]
    return numbers, b"".join(matrix.tobytes() for matrix in numbers), parts


def test_matrices_are_transposed_and_turned_back():
    numbers, data, parts = two_matrices()
    forth = turned(data, parts, back=False)
    assert forth == b"".join(np.ascontiguousarray(matrix.T).tobytes() for matrix in numbers)
    assert turned(forth, parts, back=True) == data
    assert turned(data, (), back=False) == data


@installed
def test_round_trip_of_streams_with_and_without_parts():
    _, data, parts = two_matrices()
    for known in (parts, ()):
        blob = LrzipCoder().encode(data, known)
        assert LrzipCoder().encode(data, known) == blob
        assert len(blob) < len(data)
        assert LrzipCoder(level=1).decode(blob, len(data), known) == data


@installed
def test_damage_is_refused():
    data = b"ninety-nine " * 100
    blob = LrzipCoder().encode(data)
    for size in (1, len(data) - 1, len(data) + 1):
        with pytest.raises(ArtifactError, match="compressed stream"):
            LrzipCoder().decode(blob, size)
    for wrong in (blob + b"\x00", blob + blob, blob[:-1], b"", b"\xff" * 40):
        with pytest.raises(ArtifactError):
            LrzipCoder().decode(wrong, len(data))


def test_a_missing_program_is_named(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UsageError, match="lrzip is not installed") as caught:
        LrzipCoder().encode(b"bytes")
    assert "mixing" in caught.value.fix
