"""Opening a dataset: every layout people have, every way it can be incomplete, and preparing a corpus once."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from paramgolf.data.corpora import Corpus, open_corpus
from paramgolf.data.dataset import open_dataset, prepared
from paramgolf.data.manifest import read_manifest, write_manifest
from paramgolf.data.prepare import prepare
from paramgolf.data.preparing import PrepareOptions, Preparing
from paramgolf.data.shards import ShardWriter, find_shards
from paramgolf.data.tokenizers import load_tokenizer, train_sentencepiece
from paramgolf.errors import DataError, UsageError

OPTIONS = PrepareOptions(shard_tokens=2_000, val_documents=10, workers=1)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two datasets of one small corpus; tests copy it."""
    root = tmp_path_factory.mktemp("made")
    small_corpus(root)
    for variant in ("byte260", "sp300"):
        prepare(open_corpus(root / "sample.jsonl"), root / "out", variant=variant, options=OPTIONS)
    return root / "out"


def small_corpus(root: Path) -> Corpus:
    texts = [" ".join(f"{place * number * 7919 % 99991:x}" for number in range(40)) for place in range(1, 60)]
    (root / "sample.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return open_corpus(root / "sample.jsonl")


@pytest.fixture
def out(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "out"))


@pytest.mark.parametrize("variant", ["sp300", "sample_sp300", "byte260"])
def test_a_variant_is_found_with_its_tokenizer(out: Path, variant: str) -> None:
    dataset = open_dataset(out, variant)
    assert dataset.name in ("sample_sp300", "sample_byte260")
    assert dataset.train == find_shards(out / "datasets" / dataset.name, "train")
    assert len(dataset.val) == 1 or dataset.name == "sample_byte260"
    assert dataset.val_bytes == ()
    assert dataset.tokenizer.vocab == (260 if variant == "byte260" else 300)
    assert open_dataset(out / "datasets" / dataset.name).fingerprint == dataset.fingerprint
    assert len(dataset.fingerprint) == 12


def test_the_choice_among_several_is_asked_for(out: Path) -> None:
    with pytest.raises(UsageError, match="several datasets") as caught:
        open_dataset(out)
    assert "sample_byte260, sample_sp300" in str(caught.value)
    with pytest.raises(UsageError, match=r"no dataset 'sp3000'; did you mean 'sp300'\?"):
        open_dataset(out, "sp3000")


def test_a_doubled_datasets_folder(out: Path) -> None:
    (out / "doubled" / "datasets").mkdir(parents=True)
    shutil.move(out / "datasets", out / "doubled" / "datasets" / "datasets")
    shutil.move(out / "tokenizers", out / "doubled" / "datasets" / "tokenizers")
    shutil.move(out / "manifest.json", out / "doubled" / "datasets" / "manifest.json")
    assert open_dataset(out / "doubled", "sp300").tokenizer.vocab == 300


def test_without_a_manifest_the_name_tells_the_tokenizer(out: Path) -> None:
    (out / "manifest.json").unlink()
    assert open_dataset(out, "sp300").tokenizer.vocab == 300
    assert open_dataset(out, "byte260").tokenizer.kind == "bytes"
    bare = Path(shutil.copytree(out / "datasets" / "sample_sp300", out.parent / "elsewhere" / "bare"))
    with pytest.raises(DataError, match="no tokenizer is there") as caught:
        open_dataset(bare)
    assert "--tokenizer" in str(caught.value)
    model = out / "tokenizers" / "sample_300_bpe.model"
    assert open_dataset(bare, tokenizer=model).tokenizer.vocab == 300


def test_missing_and_empty_folders(tmp_path: Path, out: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        open_dataset(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="it holds: nothing"):
        open_dataset(tmp_path / "empty")
    for path in find_shards(out / "datasets" / "sample_sp300", "train"):
        path.unlink()
    with pytest.raises(DataError, match="no training shards"):
        open_dataset(out, "sp300")


def test_fewer_training_shards_are_fine_but_validation_must_be_whole(out: Path) -> None:
    folder = out / "datasets" / "sample_byte260"
    whole = open_dataset(out, "byte260")
    whole.train[-1].unlink()
    fewer = open_dataset(out, "byte260")
    assert len(fewer.train) == len(whole.train) - 1
    assert fewer.fingerprint != whole.fingerprint
    find_shards(folder, "val")[-1].unlink()
    with pytest.raises(DataError, match="is not complete") as caught:
        open_dataset(out, "byte260")
    assert "validation shards, the manifest says" in str(caught.value)


def test_validation_tokens_must_be_those_of_the_manifest(out: Path) -> None:
    path = find_shards(out / "datasets" / "sample_sp300", "val")[-1]
    with ShardWriter(path.parent, "sample", "val", first=int(path.stem[-6:])) as writer:
        writer.write(np.ones(7, np.uint16))
    with pytest.raises(DataError, match="validation tokens, the manifest says"):
        open_dataset(out, "sp300")


def test_a_truncated_shard_is_refused(out: Path) -> None:
    path = find_shards(out / "datasets" / "sample_sp300", "train")[0]
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(DataError, match="is truncated"):
        open_dataset(out, "sp300")


def test_an_unfinished_preparation_is_not_opened(out: Path) -> None:
    (out / "manifest.json").unlink()
    (out / "datasets" / "sample_sp300" / ".prepare.json").write_text("{}")
    with pytest.raises(DataError, match="was not finished"):
        open_dataset(out, "sp300")
    assert open_dataset(out, "byte260")


def test_a_tokenizer_of_another_vocabulary_is_refused(out: Path) -> None:
    manifest = read_manifest(out / "manifest.json")
    entry = manifest.dataset("sample_sp300")
    assert entry
    write_manifest(replace(manifest, datasets=(replace(entry, vocab_size=1024),)), out / "manifest.json")
    with pytest.raises(DataError, match="does not belong") as caught:
        open_dataset(out, "sp300")
    assert "300 ids, the manifest says 1,024" in str(caught.value)


def test_another_tokenizer_of_the_same_size_is_refused(out: Path, tmp_path: Path) -> None:
    """Whether it is found or asked for; a manifest that tells no fingerprint gives nothing to compare."""
    right = open_dataset(out, "sp300").tokenizer.fingerprint
    model = out / "tokenizers" / "sample_300_bpe.model"
    texts = [" ".join(f"{place * number * 7919 % 99991:x}"[::-1] for number in range(50)) for place in range(1, 60)]
    other = train_sentencepiece(texts, 300, tmp_path / "other.model")
    with pytest.raises(DataError, match="does not belong to dataset sample_sp300") as caught:
        open_dataset(out, "sp300", tokenizer=other)
    shutil.copy(other, model)
    with pytest.raises(DataError, match="does not belong to dataset sample_sp300"):
        open_dataset(out, "sp300")
    assert f"fingerprint {load_tokenizer(other).fingerprint}, the manifest says {right}" in caught.value.evidence
    assert caught.value.fix == f"paramgolf data check {out}"
    manifest = read_manifest(out / "manifest.json")
    silent = tuple(replace(entry, fingerprint=None) for entry in manifest.tokenizers)
    write_manifest(replace(manifest, tokenizers=silent), out / "manifest.json")
    assert open_dataset(out, "sp300").tokenizer.fingerprint != right


def test_sidecars_must_be_there_and_fit(out: Path) -> None:
    folder = out / "datasets" / "sample_sp300"
    manifest = read_manifest(out / "manifest.json")
    entry = manifest.dataset("sample_sp300")
    assert entry
    promised = replace(entry, val_bytes_glob="datasets/sample_sp300/sample_val_bytes_*.bin")
    write_manifest(replace(manifest, datasets=(promised,)), out / "manifest.json")
    with pytest.raises(DataError, match="no byte sidecars"):
        open_dataset(out, "sp300")
    for path in find_shards(folder, "val"):
        shutil.copy(path, path.with_name(path.name.replace("_val_", "_val_bytes_")))
    dataset = open_dataset(out, "sp300")
    assert len(dataset.val_bytes) == len(dataset.val)
    assert not set(dataset.val_bytes) & set(dataset.val)
    with ShardWriter(folder, "sample", "val_bytes") as writer:
        writer.write(np.ones(7, np.uint16))
    with pytest.raises(DataError, match="do not fit"):
        open_dataset(out, "sp300")


def test_a_corpus_is_prepared_once(tmp_path: Path) -> None:
    small_corpus(tmp_path)
    source, root = str(tmp_path / "sample.jsonl"), tmp_path / "root"
    seen: list[Preparing] = []
    first = prepared(source, variant="sp300", root=root, options=OPTIONS, progress=seen.append)
    assert seen
    seen.clear()
    assert prepared(source, variant="sp300", root=root, options=OPTIONS, progress=seen.append).train == first.train
    assert seen == []
    assert first.train[0].is_relative_to(root)
    assert [path.name.split("-")[0] for path in root.iterdir()] == ["sample_sp300"]
    # A changed corpus and other options go to folders of their own.
    with (tmp_path / "sample.jsonl").open("a") as file:
        file.write('{"text": "one more"}\n')
    assert prepared(source, variant="sp300", root=root, options=OPTIONS).train != first.train
    prepared(source, variant="sp300", root=root, options=replace(OPTIONS, limit=30))
    assert len(list(root.iterdir())) == 3


def test_a_prepared_folder_is_taken_as_it_is(out: Path, tmp_path: Path) -> None:
    dataset = prepared(str(out), variant="sp300", root=tmp_path / "unused")
    assert dataset.name == "sample_sp300"
    model = out / "tokenizers" / "sample_300_bpe.model"
    assert prepared(str(out / "datasets" / "sample_sp300"), variant=str(model), root=tmp_path).train == dataset.train
    assert not (tmp_path / "unused").exists()


def test_a_folder_of_text_with_a_manifest_of_something_else_is_a_corpus(tmp_path: Path) -> None:
    small_corpus(tmp_path)
    (tmp_path / "manifest.json").write_text('{"name": "an extension of a browser", "version": 3}')
    assert prepared(str(tmp_path), variant="byte260", root=tmp_path / "root", options=OPTIONS).tokenizer.vocab == 260
