import os
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paramgolf.data.shards import (
    SHARD_MAGIC,
    ShardWriter,
    find_shards,
    find_sidecars,
    open_shard,
    open_sidecar,
    shard_header,
    sidecar_of,
)
from paramgolf.errors import DataError


def write_shard(path: Path, ids: np.ndarray) -> Path:
    path.write_bytes(shard_header(len(ids)) + ids.astype("<u2").tobytes())
    return path


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    return write_shard(tmp_path / "x_val_000000.bin", np.arange(10))


def test_the_layout_is_the_published_one(shard: Path) -> None:
    data = shard.read_bytes()
    assert struct.unpack("<256i", data[:1024]) == (20240520, 1, 10, *[0] * 253)
    assert struct.unpack("<10H", data[1024:]) == tuple(range(10))


@settings(max_examples=60, deadline=None)
@given(
    lots=st.lists(st.lists(st.integers(0, 65_535), max_size=30), max_size=12),
    shard_tokens=st.integers(1, 40),
)
def test_what_was_written_is_read(
    lots: list[list[int]], shard_tokens: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("shards")
    with ShardWriter(folder, "x", "train", shard_tokens=shard_tokens) as writer:
        for lot in lots:
            writer.write(np.array(lot, dtype=np.int64))
    everything = [token for lot in lots for token in lot]
    assert find_shards(folder, "train") == writer.paths
    assert writer.tokens == len(everything)
    opened = [open_shard(path) for path in writer.paths]
    assert [token for one in opened for token in one.map().tolist()] == everything
    full, rest = divmod(len(everything), shard_tokens)
    assert [one.tokens for one in opened] == [shard_tokens] * full + [rest] * (rest > 0)
    assert sorted(os.listdir(folder)) == [path.name for path in writer.paths]


@pytest.mark.parametrize(
    ("damage", "cause"),
    [
        (lambda data: b"", "is empty"),
        (lambda data: data[:-1], "is truncated"),
        (lambda data: data[:1030], "is truncated"),
        (lambda data: data[:100], "is truncated"),
        (lambda data: data[:3], "is not a token shard"),
        (lambda data: data + b"\0", "is longer than its header says"),
        (lambda data: struct.pack("<3i", SHARD_MAGIC, 2, 10) + data[12:], "another version"),
        (lambda data: struct.pack("<3i", SHARD_MAGIC, 1, -1) + data[12:], "holds no tokens"),
        (lambda data: shard_header(0), "holds no tokens"),
        (lambda data: struct.pack(">3i", SHARD_MAGIC, 1, 10) + data[12:], "not a token shard"),
        (lambda data: b"version https://git-lfs.github.com/spec/v1\n", "not a token shard"),
        (lambda data: b"<html>", "not a token shard"),
    ],
)
def test_a_damaged_shard_is_refused_with_the_next_command(shard: Path, damage, cause: str) -> None:
    shard.write_bytes(damage(shard.read_bytes()))
    with pytest.raises(DataError) as caught:
        open_shard(shard)
    assert cause in caught.value.cause
    assert str(shard) in caught.value.evidence
    assert caught.value.fix == f"paramgolf data check {shard.parent}"


def test_a_foreign_file_is_recognized(shard: Path) -> None:
    shard.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n")
    with pytest.raises(DataError, match="Git LFS pointer"):
        open_shard(shard)


@settings(max_examples=100, deadline=None)
@given(data=st.binary(max_size=1100))
def test_arbitrary_bytes_are_refused_or_a_shard(data: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "noise_val_000000.bin"
    for content in (data, shard_header(len(data))[:12] + data):
        path.write_bytes(content)
        try:
            opened = open_shard(path)
        except DataError:
            continue
        assert len(content) == 1024 + 2 * opened.tokens


def test_a_reserved_header_word_is_tolerated(shard: Path) -> None:
    data = bytearray(shard.read_bytes())
    data[400] = 7
    shard.write_bytes(data)
    assert open_shard(shard).tokens == 10


def test_a_missing_shard_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No such file"):
        open_shard(tmp_path / "x_val_000000.bin")
    with pytest.raises(DataError, match="Is a directory"):
        open_shard(tmp_path)


def test_ids_outside_the_vocabulary_are_found_in_every_chunk(shard: Path) -> None:
    assert open_shard(shard, vocab=10).tokens == 10
    with pytest.raises(DataError, match="id 9 at token 9 of 10"):
        open_shard(shard, vocab=9)
    with pytest.raises(DataError, match="id 7 at token 7 of 10"):
        open_shard(shard).check_ids(7, chunk=2)


def test_a_sidecar_is_not_read_as_tokens(tmp_path: Path) -> None:
    """The glob bug of D6: `*_val_*.bin` also matches the byte sidecar."""
    tokens = write_shard(tmp_path / "x_val_000000.bin", np.arange(3))
    sidecar = write_shard(tmp_path / "x_val_bytes_000000.bin", np.arange(3))
    assert find_shards(tmp_path, "val") == (tokens,)
    assert find_sidecars(tmp_path, "val") == (sidecar,)
    assert sidecar_of(tokens) == sidecar
    with pytest.raises(DataError, match="byte sidecar"):
        open_shard(sidecar)
    with pytest.raises(DataError, match="not a byte sidecar"):
        open_sidecar(tokens)
    assert open_sidecar(sidecar).tokens == 3


def test_shards_are_found_in_order_and_by_split(tmp_path: Path) -> None:
    for name in ("x_train_000002", "x_train_000010", "x_train_000000", "x_val_000000"):
        write_shard(tmp_path / f"{name}.bin", np.arange(3))
    (tmp_path / ".x_train_000003.bin.partial").write_bytes(b"half")
    assert [path.name[8:14] for path in find_shards(tmp_path, "train")] == ["000000", "000002", "000010"]
    assert find_shards(tmp_path / "nowhere", "train") == ()


def test_a_failed_block_leaves_complete_shards_only(tmp_path: Path) -> None:
    def fail() -> None:
        with ShardWriter(tmp_path, "x", "train", shard_tokens=4) as writer:
            writer.write(np.arange(6))
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert os.listdir(tmp_path) == ["x_train_000000.bin"]
    assert open_shard(tmp_path / "x_train_000000.bin").tokens == 4


def test_a_writer_goes_on_where_another_stopped(tmp_path: Path) -> None:
    (tmp_path / ".x_train_000001.bin.partial").write_bytes(b"left by a killed writer, longer than what follows")
    for first in (0, 1):
        with ShardWriter(tmp_path, "x", "train", shard_tokens=4, first=first) as writer:
            writer.write(np.arange(4))
    assert sorted(os.listdir(tmp_path)) == ["x_train_000000.bin", "x_train_000001.bin"]
    assert open_shard(tmp_path / "x_train_000001.bin").map().tolist() == [0, 1, 2, 3]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("tokens", [3, 1_000_000])
def test_a_full_disk_keeps_complete_shards_and_leaves_nothing_else(tmp_path: Path, tokens: int) -> None:
    """Three tokens stay in the buffer, so that the disk is found full only at closing."""
    writer = ShardWriter(tmp_path, "x", "train", shard_tokens=tokens)
    writer.write(np.zeros(tokens, np.uint16))
    writer.partial.symlink_to("/dev/full")
    with pytest.raises(DataError, match="No space left") as caught:
        writer.write(np.zeros(2 * tokens, np.uint16))
    assert "free" in caught.value.evidence
    assert "1 complete shards stand" in caught.value.evidence
    writer.close()
    assert os.listdir(tmp_path) == ["x_train_000000.bin"]


@pytest.mark.parametrize("ids", [[-1], [65_536]])
def test_ids_that_do_not_fit_are_refused(tmp_path: Path, ids: list[int]) -> None:
    with (
        pytest.raises(ValueError, match=r"\[0, 65536\)"),
        ShardWriter(tmp_path, "x", "train") as writer,
    ):
        writer.write(np.array(ids))
