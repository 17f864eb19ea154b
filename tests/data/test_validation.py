import dataclasses
from pathlib import Path

import numpy as np
import pytest

from paramgolf.batch import BOS
from paramgolf.data.bytecount import ByteTable
from paramgolf.data.shards import ShardWriter, find_shards, open_shard, sidecar_of
from paramgolf.data.tokenizers import ByteTokenizer, CaseOpsTokenizer, SentencePieceTokenizer
from paramgolf.data.validation import validation_stream
from paramgolf.errors import DataError, UsageError


class Retabled(SentencePieceTokenizer):
    """A tokenizer with another byte table."""

    def __init__(self, path: Path, **changes: np.ndarray) -> None:
        super().__init__(path, threads=1)
        self.table: ByteTable = dataclasses.replace(self.table, **changes)


def write_ids(folder: Path, name: str, ids: np.ndarray) -> Path:
    """One shard file called `name`, be it tokens or byte counts."""
    with ShardWriter(folder / "made", "x", "val") as writer:
        writer.write(ids)
    return writer.paths[0].rename(folder / name)


def test_the_whole_split_with_its_bytes(tmp_path: Path, sp, write_split, texts: list[str]) -> None:
    paths = write_split(tmp_path, "val", sp, texts[:50], shard_tokens=1000)
    assert len(paths) > 3
    stream = validation_stream(paths, sp)
    assert len(stream.target_bytes) == len(stream.tokens) - 1
    assert stream.target_bytes.dtype == np.int32
    assert (stream.tokens == BOS).sum() == 50
    assert stream.target_bytes.sum() == sum(len(" ".join(text.split()).encode()) for text in texts[:50])
    assert not stream.target_bytes[stream.tokens[1:] == BOS].any()


def test_bytes_stream(tmp_path: Path, write_split, texts: list[str]) -> None:
    paths = write_split(tmp_path, "val", ByteTokenizer(), [*texts[:5], "\u65e5\ufffd"])
    stream = validation_stream(paths, ByteTokenizer())
    assert stream.target_bytes.sum() == sum(len(text.strip().encode()) for text in texts[:5]) + 6


def test_the_cut_of_the_challenge_is_optional(tmp_path: Path, sp, write_split, texts: list[str]) -> None:
    paths = write_split(tmp_path, "val", sp, texts[:10])
    whole, cut = validation_stream(paths, sp), validation_stream(paths, sp, length=64)
    targets = len(whole.target_bytes) // 64 * 64
    assert 0 < len(whole.target_bytes) - targets < 64
    assert len(cut.target_bytes) == targets == len(cut.tokens) - 1
    assert (cut.tokens == whole.tokens[: targets + 1]).all()
    with pytest.raises(UsageError, match="multiples of 1,000,000"):
        validation_stream(paths, sp, length=1_000_000)


def test_unknown_tokens_count_no_bytes(tmp_path: Path, sp_model: Path, sp, write_split) -> None:
    """The official sp1024 and sp4096 models have no byte fallback: the bytes of an unknown token are not known."""
    path = write_ids(
        tmp_path, "x_val_000000.bin", np.concatenate(([BOS], sp.encode(["in the"])[0], [3], *sp.encode(["end"])))
    )
    assert validation_stream([path], sp).target_bytes.sum() == len("in the") + len("end")


def test_a_table_that_counts_the_space_twice_is_refused(tmp_path: Path, sp_model: Path, sp, write_split) -> None:
    """PRs #1545 … #1712. The first document has no space, so the second is the first to disagree."""
    paths = write_split(tmp_path, "val", sp, ["word", "two words here"])
    double = Retabled(sp_model, base_bytes=sp.table.base_bytes + sp.table.has_leading_space)
    with pytest.raises(DataError) as caught:
        validation_stream(paths, double)
    assert "validation document 1" in caught.value.cause
    assert "counted 16 bytes, the text has 14" in caught.value.evidence
    assert "'two words here'" in caught.value.evidence
    assert validation_stream(paths, double, verify=False).target_bytes.sum() == 20


def test_a_table_that_counts_parts_of_characters_as_three_bytes_is_refused(
    tmp_path: Path, sp_model: Path, sp, write_split
) -> None:
    """PRs #1143 … #1289."""
    paths = write_split(tmp_path, "val", sp, ["a \u65e5"])
    fallback = np.array([sp.processor.is_byte(i) for i in range(sp.vocab)])
    with pytest.raises(DataError, match="counted 11 bytes, the text has 5"):
        validation_stream(paths, Retabled(sp_model, base_bytes=np.where(fallback, 3, sp.table.base_bytes)))


def test_text_cut_inside_a_character_is_refused(tmp_path: Path) -> None:
    ids = np.array([BOS, 4 + ord("a"), 4 + 0xC3])
    path = write_ids(tmp_path, "x_val_000000.bin", ids)
    with pytest.raises(DataError, match="counted 2 bytes, the text has 4; it decodes to broken UTF-8"):
        validation_stream([path], ByteTokenizer())


@pytest.mark.parametrize("ids", [[5, 6, 7], [5, BOS, 6]])
def test_a_stream_that_begins_inside_a_document_is_refused(tmp_path: Path, ids: list[int]) -> None:
    path = write_ids(tmp_path, "x_val_000000.bin", np.array(ids))
    with pytest.raises(DataError, match="does not begin with a document"):
        validation_stream([path], ByteTokenizer())


def test_ids_outside_the_vocabulary_and_no_shards_are_refused(tmp_path: Path) -> None:
    path = write_ids(tmp_path, "x_val_000000.bin", np.array([BOS, 260]))
    with pytest.raises(DataError, match="id 260 at token 1"):
        validation_stream([path], ByteTokenizer())
    with pytest.raises(DataError, match="no validation shards"):
        validation_stream([], ByteTokenizer())


@pytest.fixture
def caseops_files(tmp_path: Path, caseops_tokenizer: CaseOpsTokenizer, texts: list[str]) -> tuple[Path, Path]:
    """Tokens and sidecar of 30 texts."""
    ids = np.concatenate([np.concatenate(([BOS], ids)) for ids in caseops_tokenizer.encode(texts[:30])])
    return (
        write_ids(tmp_path, "x_val_000000.bin", ids),
        write_ids(tmp_path, "x_val_bytes_000000.bin", caseops_tokenizer.sidecar(ids)),
    )


def test_sidecars_give_the_bytes(caseops_files, caseops_tokenizer, texts: list[str]) -> None:
    shard, sidecar = caseops_files
    assert find_shards(shard.parent, "val") == (shard,)
    stream = validation_stream([shard], caseops_tokenizer, sidecars=[sidecar])
    original = sum(len(" ".join(text.split()).encode()) for text in texts[:30])
    assert stream.target_bytes.sum() == original
    assert stream.target_bytes.tolist() == open_shard_counts(sidecar)[1:]


def open_shard_counts(sidecar: Path) -> list[int]:
    return np.fromfile(sidecar, "<u2", offset=1024).tolist()


def test_bug_sidecar_exists_but_is_not_used(caseops_files, caseops_tokenizer) -> None:
    """PR #2071: about 9 % too many bytes."""
    shard, sidecar = caseops_files
    with pytest.raises(DataError, match="exist but are not used"):
        validation_stream([shard], caseops_tokenizer)
    sidecar.unlink()
    with pytest.raises(DataError, match="has operators of the case transform"):
        validation_stream([shard], caseops_tokenizer, verify=False)


def test_bug_sidecar_is_read_only_where_there_is_one(tmp_path: Path, sp, write_split, texts: list[str]) -> None:
    """The script of 2026-04-27 read it unconditionally and failed on plain data."""
    paths = write_split(tmp_path, "val", sp, texts[:3])
    assert not sidecar_of(paths[0]).exists()
    assert validation_stream(paths, sp).target_bytes.sum() > 0


def test_published_sidecars_count_a_little_more(caseops_files, caseops_tokenizer, tmp_path: Path) -> None:
    """Text before NFKC and before white space is joined."""
    shard, sidecar = caseops_files
    counts = np.array(open_shard_counts(sidecar))
    text = np.flatnonzero(counts)
    for share, fits in ((0.005, True), (0.02, False)):
        more = counts.copy()
        more[text[: round(share * counts.sum())]] += 1
        write_ids(tmp_path, sidecar.name, more)
        if fits:
            assert validation_stream([shard], caseops_tokenizer, sidecars=[sidecar]).target_bytes.sum() > counts.sum()
        else:
            with pytest.raises(DataError, match="disagree with the text"):
                validation_stream([shard], caseops_tokenizer, sidecars=[sidecar])


def test_sidecars_that_do_not_belong_are_refused(caseops_files, caseops_tokenizer, tmp_path: Path) -> None:
    shard, sidecar = caseops_files
    good = open_shard_counts(sidecar)
    tokens = open_shard(shard).map()
    with_bytes = list(good)
    with_bytes[int(np.argmax(tokens == 4))] = 3
    bad = {
        "byte counts for": good[:-1],
        "gives bytes to tokens that stand for no text": with_bytes,
        "disagree with the text": [count + (count > 0) for count in good],
    }
    for cause, counts in bad.items():
        write_ids(tmp_path, sidecar.name, np.array(counts))
        with pytest.raises(DataError, match=cause):
            validation_stream([shard], caseops_tokenizer, sidecars=[sidecar])
    with pytest.raises(DataError, match="1 validation shards have 2 byte sidecars"):
        validation_stream([shard], caseops_tokenizer, sidecars=[sidecar, sidecar])
