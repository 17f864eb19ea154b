"""Retokenizing the frozen documents: the same split under every tokenizer, and nothing else than the frozen ones."""

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paramgolf.batch import BOS
from paramgolf.data.dataset import open_dataset
from paramgolf.data.preparing import PrepareOptions
from paramgolf.data.retokenize import retokenize
from paramgolf.data.shards import find_shards, open_shard
from paramgolf.errors import DataError, UsageError

DOCS, VAL = 60, 10
OPTIONS = PrepareOptions(shard_tokens=4_000, val_documents=VAL, workers=1)


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    texts = [" ".join(f"{place * number * 7919 % 99991:x}" for number in range(40)) for place in range(1, DOCS + 1)]
    path = tmp_path / "docs_selected.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    tell(path, docs_sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    return path


def tell(docs: Path, **changes: Any) -> None:
    """Write the side manifest, or change it."""
    path = docs.with_name("docs_selected.source_manifest.json")
    before = (
        json.loads(path.read_text()) if path.exists() else {"num_docs": DOCS, "docs_val": VAL, "shuffle_seed": 1337}
    )
    path.write_text(json.dumps(before | changes))


def documents_in(folder: Path, split: str) -> int:
    return sum(int(np.sum(open_shard(path).map() == BOS)) for path in find_shards(folder, split))


def test_every_variant_has_the_same_documents(docs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    manifest = retokenize(docs, ["byte260", "sp300"], out=out, options=OPTIONS)
    for variant in ("byte260", "sp300"):
        folder = open_dataset(out, variant).val[0].parent
        assert folder.name == f"fineweb10B_{variant}"
        assert find_shards(folder, "val")[0].name == "fineweb_val_000000.bin"
        assert (documents_in(folder, "val"), documents_in(folder, "train")) == (VAL, DOCS - VAL)
    assert (manifest.version, manifest.num_docs, manifest.num_val_docs) == ("10B", DOCS, VAL)
    assert (manifest.shuffle_seed, manifest.docs_jsonl) == (1337, "docs_selected.jsonl")
    assert manifest.docs_meta
    assert manifest.docs_meta.docs_sha256 == hashlib.sha256(docs.read_bytes()).hexdigest()
    config = json.loads((out / "tokenizer_config.export.json").read_text())
    assert [entry["vocab_size"] for entry in config["tokenizers"]] == [260, 300]
    assert (out / "tokenizers" / "fineweb_300_bpe.model").exists()


def test_a_model_is_reused(docs: Path, tmp_path: Path) -> None:
    retokenize(docs, ["sp300"], out=tmp_path / "a", options=OPTIONS)
    model = tmp_path / "own.model"
    shutil.copy(tmp_path / "a" / "tokenizers" / "fineweb_300_bpe.model", model)
    retokenize(docs.parent, [f"300={model}"], out=tmp_path / "b", options=OPTIONS)
    shard = "datasets/fineweb10B_sp300/fineweb_train_000000.bin"
    assert (tmp_path / "b" / shard).read_bytes() == (tmp_path / "a" / shard).read_bytes()
    assert (tmp_path / "b" / "tokenizers" / "own.model").exists()


def test_changed_documents_are_refused(docs: Path, tmp_path: Path) -> None:
    docs.write_bytes(docs.read_bytes().replace(b" 0 ", b" 1 ", 1).replace(b" 1", b" 2", 1))
    with pytest.raises(DataError, match="not the frozen selection"):
        retokenize(docs, ["byte260"], out=tmp_path / "out", options=OPTIONS)
    assert not (tmp_path / "out").exists()
    retokenize(docs, ["byte260"], out=tmp_path / "out", options=OPTIONS, verify=False)


def test_the_number_of_validation_documents_is_the_official_one(docs: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="number of validation documents") as caught:
        retokenize(docs, ["byte260"], out=tmp_path / "out", options=replace(OPTIONS, val_documents=None))
    assert "asked for 50,000, the side manifest says 10" in str(caught.value)
    tell(docs, docs_val=50_000)
    with pytest.raises(DataError, match="no documents for training"):
        retokenize(docs, ["byte260"], out=tmp_path / "out")


def test_missing_and_empty_documents_are_noticed(docs: Path, tmp_path: Path) -> None:
    tell(docs, num_docs=DOCS + 1)
    with pytest.raises(DataError, match="not made from all documents") as caught:
        retokenize(docs, ["byte260"], out=tmp_path / "a", options=OPTIONS)
    assert "60 were read, the side manifest says 61" in str(caught.value)
    docs.write_text('{"text": " "}\n' + docs.read_text())
    with pytest.raises(DataError, match="does not have the validation documents") as caught:
        retokenize(docs, ["byte260"], out=tmp_path / "b", options=OPTIONS, verify=False)
    assert "9 came out, 10 are wanted; 1 documents are empty" in str(caught.value)


def test_what_cannot_be_used(docs: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not there"):
        retokenize(tmp_path / "absent.jsonl", ["byte260"], out=tmp_path / "out")
    with pytest.raises(UsageError, match="no variant"):
        retokenize(docs, [], out=tmp_path / "out", options=OPTIONS)
    (tmp_path / "broken.json").write_text("[")
    with pytest.raises(DataError, match="not a side manifest"):
        retokenize(docs, ["byte260"], out=tmp_path / "out", sidecar=tmp_path / "broken.json")
