import hashlib
from pathlib import Path

import numpy as np
import pytest

from paramgolf.batch import BOS
from paramgolf.data.boundaries import document_digests, document_starts
from paramgolf.data.check import Finding, check_folder
from paramgolf.data.manifest import (
    DatasetEntry,
    DatasetStats,
    Manifest,
    ShardEntry,
    TokenizerEntry,
    write_manifest,
)
from paramgolf.data.shards import ShardWriter, open_shard
from paramgolf.data.tokenizers import ByteTokenizer, SentencePieceTokenizer

NAME = "text_sp512"


@pytest.fixture
def root(tmp_path: Path, sp: SentencePieceTokenizer, write_split, texts: list[str]) -> Path:
    """A sound prepared folder with its manifest."""
    folder = tmp_path / "datasets" / NAME
    train = write_split(folder, "train", sp, texts[20:60])
    val = write_split(folder, "val", sp, texts[:20])
    (tmp_path / "tokenizers").mkdir()
    (tmp_path / "tokenizers" / "small.model").write_bytes(sp.path.read_bytes())
    entry = DatasetEntry(
        name=NAME,
        tokenizer_name="small",
        path=f"datasets/{NAME}",
        vocab_size=512,
        stats=DatasetStats(
            docs_val=20,
            files_train=len(train),
            files_val=len(val),
            tokens_val=sum(open_shard(path).tokens for path in val),
        ),
        shards=tuple(
            ShardEntry(
                name=path.name,
                bytes=path.stat().st_size,
                sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
            )
            for path in (*train, *val)
        ),
    )
    tokenizer = TokenizerEntry(
        name="small",
        kind="sentencepiece",
        vocab_size=512,
        model_path="tokenizers/small.model",
        fingerprint=sp.fingerprint,
    )
    write_manifest(Manifest(tokenizers=(tokenizer,), datasets=(entry,)), tmp_path / "manifest.json")
    return tmp_path


@pytest.fixture
def shards(root: Path) -> Path:
    return root / "datasets" / NAME


def causes(findings: list[Finding]) -> str:
    return "\n".join(f"{finding.severity}: {finding.cause} ({finding.evidence})" for finding in findings)


def edit(root: Path, old: str, new: str) -> None:
    path = root / "manifest.json"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_sound_data_has_no_findings(root: Path, shards: Path, sp: SentencePieceTokenizer) -> None:
    assert check_folder(root, disjoint=True, hashes=True) == []
    assert check_folder(shards, tokenizer=sp, disjoint=True) == []
    assert causes(check_folder(shards)) == "warning: ids and bytes were not checked (the tokenizer is not known)"


def test_every_fault_is_reported_at_once(root: Path, shards: Path) -> None:
    first, second = sorted(shards.glob("*_train_*.bin"))[:2]
    first.write_bytes(b"")
    second.write_bytes(second.read_bytes()[:-2])
    (shards / ".text_train_000009.bin.partial").write_bytes(b"half")
    found = check_folder(root)
    assert f"error: {first.name} is empty" in causes(found)
    assert f"error: {second.name} is truncated" in causes(found)
    assert "warning: an unfinished file was left behind (4 bytes)" in causes(found)
    assert {finding.path.name for finding in found} >= {first.name, second.name}
    assert all(finding.fix for finding in found)


@pytest.mark.parametrize("split", ["train", "val"])
def test_ids_outside_the_vocabulary(root: Path, shards: Path, split: str) -> None:
    path = sorted(shards.glob(f"*_{split}_*.bin"))[0]
    data = bytearray(path.read_bytes())
    data[1024 + 100 : 1024 + 102] = (512).to_bytes(2, "little")
    path.write_bytes(data)
    assert "outside the vocabulary of 512 (" in causes(check_folder(root))
    assert "id 512 at token 50" in causes(check_folder(root))
    assert "the file is not the manifest's (SHA-256" in causes(check_folder(root, hashes=True))


def test_documents_must_begin_with_bos(tmp_path: Path) -> None:
    for split, ids in (("train", [9, 9, 9, BOS]), ("val", [9, 9])):
        with ShardWriter(tmp_path, "x", split) as writer:
            writer.write(np.array(ids))
    found = causes(check_folder(tmp_path, tokenizer=ByteTokenizer()))
    assert (
        "error: the split does not begin with a document (its first id is 9, BOS is 1; the first BOS is token 3)"
        in found
    )
    assert "error: no document begins in this shard (no BOS (id 1) in 2 tokens)" in found


def test_missing_splits_and_folders(tmp_path: Path) -> None:
    assert "there is no such folder" in causes(check_folder(tmp_path / "nowhere"))
    found = causes(check_folder(tmp_path))
    assert "there is no sound train shard" in found
    assert "there is no sound val shard" in found
    (tmp_path / "manifest.json").write_text("{")
    assert "is not JSON" in causes(check_folder(tmp_path))


@pytest.mark.parametrize(
    ("old", "new", "cause"),
    [
        (
            '"docs_val": 20',
            '"docs_val": 21',
            "error: the number of validation documents is not the manifest's (20 here, 21",
        ),
        ('"tokens_val": ', '"tokens_val": 9', "error: the number of validation tokens"),
        ('"files_train": ', '"files_train": 9', "warning: the number of training shards"),
        ('"files_train": ', '"files_train": 0, "was": ', "error: the number of training shards"),
        ('"vocab_size": 512', '"vocab_size": 1024', "error: the vocabulary of small is not that of the tokenizer"),
        ('"fingerprint": "', '"fingerprint": "0', "error: small is not the tokenizer that made text_sp512"),
        ('"tokenizer_name": "small"', '"tokenizer_name": "big"', "error: the manifest has no tokenizer 'big'"),
        ('"model_path": "tokenizers/', '"model_path": "nowhere/', "small.model is not a tokenizer that can be used"),
        ('"path": "datasets/', '"path": "nowhere/', "warning: dataset text_sp512 is not here"),
        ('"bytes": ', '"bytes": 9', "error: the file is not the manifest's"),
    ],
)
def test_the_manifest_must_agree(root: Path, old: str, new: str, cause: str) -> None:
    edit(root, old, new)
    assert cause in causes(check_folder(root))


def test_another_tokenizer_of_the_same_size_is_noticed(root: Path, shards: Path, caseops_tokenizer) -> None:
    """Same vocabulary size, other pieces: the ids decode, but the case operators give it away."""
    assert "operators of the case transform" in causes(check_folder(shards, tokenizer=caseops_tokenizer))


def test_unknown_tokens_are_a_warning(tmp_path: Path, sp: SentencePieceTokenizer) -> None:
    for split in ("train", "val"):
        with ShardWriter(tmp_path, "x", split) as writer:
            writer.write(np.array([BOS, *sp.encode(["the"])[0], 3, 3]))
    found = check_folder(tmp_path, tokenizer=sp)
    assert [finding.severity for finding in found] == ["warning"]
    assert "2 of 5 tokens are unknown" in causes(found)


def test_validation_documents_in_training_are_found(root: Path, shards: Path, sp, texts: list[str]) -> None:
    with ShardWriter(shards, "text", "train", first=50) as writer:
        for text in (texts[499], texts[3], texts[19]):
            writer.write(np.array([BOS, *sp.encode([text])[0]]))
    assert "in the training shards" not in causes(check_folder(root))
    found = causes(check_folder(root, disjoint=True))
    assert (
        "error: validation documents are in the training shards (2 training documents; the first is number 41 " in found
    )
    assert "and 3 of the validation documents" in found


def test_official_marks_are_asked_of_official_data_only(root: Path) -> None:
    """Issue #2127: 40,000 validation documents in the training shards."""
    edit(root, f'"name": "{NAME}"', '"name": "fineweb10B_sp512_lossless_caps_caseops_v1"')
    assert check_folder(root) == []
    edit(root, '"append_eos": false', '"append_eos": false, "version": "10B"')
    found = causes(check_folder(root))
    assert "20 validation documents, the official split has 50,000 (issue #2127)" in found
    assert "not the official CaseOps validation split" in found


def test_digests_do_not_depend_on_shards_or_chunks(tmp_path: Path, write_split, texts: list[str]) -> None:
    whole = write_split(tmp_path / "a", "train", ByteTokenizer(), texts[:20], shard_tokens=10**6)
    parts = write_split(tmp_path / "b", "train", ByteTokenizer(), texts[:20], shard_tokens=333)
    one = [open_shard(path) for path in whole]
    many = [open_shard(path) for path in parts]
    digests = list(document_digests(one))
    assert len(digests) == len(set(digests)) == 20
    assert list(document_digests(many)) == list(document_digests(many, chunk=7)) == digests
    assert list(document_starts(one[0], chunk=50)) == np.flatnonzero(one[0].map() == BOS).tolist()
