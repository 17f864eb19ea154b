"""The manifest: what others wrote is kept, what is wrong is named."""

import json
from pathlib import Path
from typing import Any

import pytest

from paramgolf.data.manifest import (
    DatasetEntry,
    Manifest,
    TokenizerEntry,
    bigram_vocab,
    dataset_name,
    merged_manifest,
    read_manifest,
    write_manifest,
)
from paramgolf.errors import DataError

OFFICIAL: dict[str, Any] = {
    "version": "10B",
    "num_docs": 15368808,
    "num_val_docs": 50000,
    "shuffle_seed": 1337,
    "shard_size": 100000000,
    "append_eos": False,
    "docs_jsonl": "docs_selected.jsonl",
    "docs_meta": {"remote_repo_id": "someone/data", "num_docs": 15368808, "source_sidecar": {"a": [1, None]}},
    "tokenizer_specs": [{"name": "sp_bpe_1024", "vocab_size": 1024}],
    "tokenizers": [
        {
            "name": "sp_bpe_1024",
            "kind": "sentencepiece_bpe",
            "vocab_size": 1024,
            "bos_id": 1,
            "model_path": "tokenizers/fineweb_1024_bpe.model",
            "invented_later": None,
        }
    ],
    "datasets": [
        {
            "name": "fineweb10B_sp1024",
            "tokenizer_name": "sp_bpe_1024",
            "vocab_size": 1024,
            "stats": {"files_val": 1, "files_train": 195, "tokens_val": 62021846},
            "novel": {"x": 1},
        }
    ],
    "unheard_of": [1, 2],
}


def test_another_export_survives_reading_and_writing(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps(OFFICIAL))
    manifest = read_manifest(path)
    assert manifest.datasets[0].stats.files_train == 195
    assert manifest.datasets[0].variant == "sp1024"
    assert manifest.tokenizer("sp_bpe_1024") == manifest.tokenizers[0]
    write_manifest(manifest, path)
    again = json.loads(path.read_text())
    assert {name: again[name] for name in OFFICIAL if name != "datasets"} == {
        name: value for name, value in OFFICIAL.items() if name != "datasets"
    }
    assert again["datasets"][0].items() >= OFFICIAL["datasets"][0].items()
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"datasets": {}}, r"manifest.json.datasets is dict, a list is wanted"),
        ({"datasets": [{"name": "x"}]}, r"datasets\[0\].tokenizer_name is missing"),
        ({"tokenizers": [{"name": 3}]}, r"tokenizers\[0\].name is 3, str is wanted"),
        ({"num_docs": True}, r"num_docs is True, int is wanted"),
        ({"docs_meta": "x"}, r"docs_meta is str, an object is wanted"),
    ],
)
def test_a_wrong_field_is_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps(OFFICIAL | change))
    with pytest.raises(DataError, match=message):
        read_manifest(path)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[]"])
def test_what_is_no_manifest_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "manifest.json").write_bytes(content)
    with pytest.raises(DataError, match="manifest"):
        read_manifest(tmp_path / "manifest.json")
    with pytest.raises(DataError, match="cannot be read"):
        read_manifest(tmp_path / "absent.json")


def test_merging_keeps_what_the_new_one_does_not_speak_of() -> None:
    def made(variant: str, tokenizer: str, vocab: int) -> Manifest:
        return Manifest(
            tokenizers=(TokenizerEntry(name=tokenizer, kind="sentencepiece", vocab_size=vocab),),
            datasets=(DatasetEntry(name=f"x_{variant}", tokenizer_name=tokenizer, vocab_size=vocab),),
        )

    old = merged_manifest(made("sp512", "b", 512), made("sp256", "a", 256))
    assert [entry.name for entry in old.datasets] == ["x_sp256", "x_sp512"]
    assert [entry.name for entry in old.tokenizers] == ["a", "b"]
    again = merged_manifest(made("sp512", "c", 512), old)
    assert [entry.tokenizer_name for entry in again.datasets] == ["a", "c"]
    assert [entry.name for entry in again.tokenizers] == ["a", "c"]


def test_names() -> None:
    assert dataset_name("fineweb", "sp1024") == "fineweb10B_sp1024"
    assert dataset_name("stdlib", "byte260") == "stdlib_byte260"
    assert [bigram_vocab(vocab) for vocab in (1024, 8192, 260)] == [5120, 40960, 1920]
