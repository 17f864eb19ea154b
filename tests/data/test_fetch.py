"""Fetching, end to end, from a hub on 127.0.0.1: what comes, what is verified, what is refused, what resumes."""

import json
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("huggingface_hub")

from hub_server import Hub, serve_hub

from paramgolf.batch import BOS
from paramgolf.data.dataset import open_dataset
from paramgolf.data.fetch import Fetching, FetchOptions, fetch
from paramgolf.data.manifest import (
    DatasetEntry,
    DatasetStats,
    Manifest,
    TokenizerEntry,
    read_manifest,
    write_manifest,
)
from paramgolf.data.shards import ShardWriter, find_shards, open_shard
from paramgolf.data.tokenizers import train_sentencepiece
from paramgolf.errors import DataError, UsageError

TRAIN, VAL = 5, 2


def write_shards(folder: Path, split: str, files: int, seed: int) -> int:
    generator = np.random.default_rng(seed)
    with ShardWriter(folder, "fineweb", split, shard_tokens=30_000) as writer:
        writer.write(generator.integers(0, 260, files * 30_000 - 100).astype(np.uint16))
    return writer.tokens


def val_documents_in(folder: Path) -> int:
    return sum(int((open_shard(path).map() == BOS).sum()) for path in find_shards(folder, "val"))


def write_repository(root: Path, model: Path, *, seed: int, variants: tuple[str, ...]) -> Path:
    """A repository in the official layout, below `datasets/`."""
    base = root / "datasets"
    (base / "tokenizers").mkdir(parents=True)
    shutil.copy(model, base / "tokenizers" / "fineweb_300_bpe.model")
    (base / "tokenizers" / "fineweb_300_bpe.vocab").write_text("pieces")
    (base / "docs_selected.jsonl").write_text('{"text": "x"}\n')
    (base / "docs_selected.source_manifest.json").write_text("{}")
    (root / "README.md").write_text("a repository")
    entries = []
    for variant in variants:
        name = f"fineweb10B_{variant}"
        tokens = {
            split: write_shards(base / "datasets" / name, split, files, seed + files)
            for split, files in (("train", TRAIN), ("val", VAL))
        }
        stats = DatasetStats(
            files_train=TRAIN,
            files_val=VAL,
            docs_val=val_documents_in(base / "datasets" / name),
            tokens_val=tokens["val"],
            tokens_train=tokens["train"],
        )
        tokenizer, vocab = ("bytes", 260) if variant == "byte260" else ("sp_bpe", 300)
        entries.append(DatasetEntry(name=name, tokenizer_name=tokenizer, vocab_size=vocab, stats=stats))
    tokenizers = (
        TokenizerEntry(name="bytes", kind="byte", vocab_size=260, path="tokenizers/fineweb_pure_byte_260.json"),
        TokenizerEntry(
            name="sp_bpe",
            kind="sentencepiece_bpe",
            vocab_size=300,
            model_path="tokenizers/fineweb_300_bpe.model",
            vocab_path="tokenizers/fineweb_300_bpe.vocab",
        ),
    )
    write_manifest(Manifest(version="10B", tokenizers=tokenizers, datasets=tuple(entries)), base / "manifest.json")
    return root


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    texts = (" ".join(f"{place * number * 7919 % 99991:x}" for number in range(40)) for place in range(1, 60))
    return train_sentencepiece(texts, 300, tmp_path_factory.mktemp("model") / "m.model")


@pytest.fixture(scope="module")
def repositories(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("repositories")
    write_repository(root / "official", model, seed=0, variants=("byte260", "sp300"))
    write_repository(root / "other", model, seed=9, variants=("sp300",))
    return root


@pytest.fixture
def hub(repositories: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    copy = Path(shutil.copytree(repositories, tmp_path / "repositories"))
    with serve_hub(official=copy / "official", other=copy / "other") as running:
        yield running


@pytest.fixture
def options(hub: Hub, tmp_path: Path) -> FetchOptions:
    return FetchOptions(repo="test/official", endpoint=hub.url, cache=tmp_path / "cache", workers=2)


def test_it_fetches_a_dataset_that_opens(hub: Hub, options: FetchOptions, tmp_path: Path) -> None:
    seen: list[Fetching] = []
    done = fetch("sp300", tmp_path / "out", train_shards=3, options=options, progress=seen.append)
    assert done.dataset == "fineweb10B_sp300"
    assert (len(done.downloaded), done.kept) == (3 + VAL + 2, ())
    assert not done.replaced_manifest
    assert [event.files for event in seen] == list(range(1, 3 + VAL + 3))
    assert seen[-1].bytes == seen[-1].bytes_total
    dataset = open_dataset(tmp_path / "out", "sp300")
    assert (len(dataset.train), len(dataset.val), dataset.tokenizer.vocab) == (3, VAL, 300)
    remote = hub.repositories["test/official"] / "datasets" / "datasets" / "fineweb10B_sp300"
    for path in (*dataset.train, *dataset.val):
        assert path.read_bytes() == (remote / path.name).read_bytes()
    assert read_manifest(tmp_path / "out" / "manifest.json").dataset("fineweb10B_byte260")
    assert not list((tmp_path / "out").rglob("*.partial"))
    assert not (tmp_path / "out" / "docs_selected.jsonl").exists()


def test_shards_are_linked_from_the_cache(options: FetchOptions, tmp_path: Path) -> None:
    done = fetch("byte260", tmp_path / "out", train_shards=1, options=options)
    assert all(path.stat().st_nlink == 2 for path in done.folder.glob("*.bin"))


def test_where_links_are_impossible_it_copies(
    options: FetchOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    done = fetch("byte260", tmp_path / "out", train_shards=1, options=options)
    assert all(open_shard(path).path.stat().st_nlink == 1 for path in done.folder.glob("*.bin"))


def test_good_files_stay_and_broken_ones_come_again(hub: Hub, options: FetchOptions, tmp_path: Path) -> None:
    first = fetch("sp300", tmp_path / "out", train_shards=2, options=options)
    hub.requests.clear()
    again = fetch("sp300", tmp_path / "out", train_shards=2, options=options)
    assert (again.downloaded, set(again.kept)) == ((), set(first.downloaded))
    assert not [name for name in hub.gets() if name.endswith((".bin", ".model"))]
    more = fetch("sp300", tmp_path / "out", train_shards=4, options=options)
    assert more.downloaded == ("fineweb_train_000002.bin", "fineweb_train_000003.bin")
    # Truncated by a full disk; the hub's cache is gone as well, or it would be linked from there.
    shutil.rmtree(tmp_path / "cache")
    broken = first.folder / "fineweb_val_000001.bin"
    content = broken.read_bytes()
    broken.unlink()
    broken.write_bytes(content[:-100])
    assert fetch("sp300", tmp_path / "out", train_shards=4, options=options).downloaded == (broken.name,)
    assert broken.read_bytes() == content


def test_files_of_others_are_verified_once(options: FetchOptions, tmp_path: Path) -> None:
    done = fetch("sp300", tmp_path / "out", train_shards=1, options=options)
    (done.folder / ".fetched.json").unlink()
    assert fetch("sp300", tmp_path / "out", train_shards=1, options=options).downloaded == ()
    assert json.loads((done.folder / ".fetched.json").read_text())["repo"] == "test/official"


@pytest.mark.parametrize("cuts", [1, 2])
def test_a_cut_connection_continues(
    hub: Hub, options: FetchOptions, tmp_path: Path, cuts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The library keeps whole chunks of what arrived; its own are larger than the files here.
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 4096)
    hub.cut = dict.fromkeys(["fineweb_train_000000.bin", "fineweb_val_000000.bin"][:cuts], 20_000)
    done = fetch("sp300", tmp_path / "out", train_shards=1, options=options)
    ranges = [(name, asked) for method, name, asked in hub.requests if method == "GET" and asked]
    assert sorted(ranges)[0] == ("fineweb_train_000000.bin", "bytes=16384-")
    assert len(ranges) == cuts
    remote = hub.repositories["test/official"] / "datasets" / "datasets" / "fineweb10B_sp300"
    for path in done.folder.glob("*.bin"):
        assert path.read_bytes() == (remote / path.name).read_bytes()


def test_content_that_is_not_what_was_listed_is_refused(hub: Hub, options: FetchOptions, tmp_path: Path) -> None:
    hub.corrupt = {"fineweb_val_000001.bin"}
    with pytest.raises(DataError, match=r"fineweb_val_000001.bin is damaged in the repository or on the way"):
        fetch("sp300", tmp_path / "out", train_shards=1, options=options)
    assert hub.gets().count("fineweb_val_000001.bin") == 2
    assert not (tmp_path / "out/datasets/fineweb10B_sp300/fineweb_val_000001.bin").exists()
    hub.corrupt = set()
    fetch("sp300", tmp_path / "out", train_shards=1, options=options)
    assert open_dataset(tmp_path / "out", "sp300")


def test_a_remote_file_that_is_no_shard_is_refused(hub: Hub, options: FetchOptions, tmp_path: Path) -> None:
    place = hub.repositories["test/official"] / "datasets" / "datasets" / "fineweb10B_sp300"
    (place / "fineweb_train_000000.bin").write_bytes(b"<html>not found</html>")
    with pytest.raises(DataError, match="is not a good shard") as caught:
        fetch("sp300", tmp_path / "out", train_shards=1, options=options)
    assert "HTML" in str(caught.value)


def test_what_does_not_exist_is_a_usage_error(options: FetchOptions, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no variant 'sp3000'; did you mean 'sp300'\?") as caught:
        fetch("sp3000", tmp_path / "out", options=options)
    assert "byte260, sp300" in str(caught.value)
    with pytest.raises(UsageError, match="80 training shards were asked for, there are 5"):
        fetch("sp300", tmp_path / "out", options=options)
    with pytest.raises(UsageError, match="no dataset repository 'test/absent'"):
        fetch("sp300", tmp_path / "out", options=replace(options, repo="test/absent"))
    with pytest.raises(UsageError, match="is not the name of a repository"):
        fetch("sp300", tmp_path / "out", options=replace(options, repo="a/b/c"))
    with pytest.raises(UsageError, match="no shards below 'elsewhere'"):
        fetch("sp300", tmp_path / "out", options=replace(options, remote_root="elsewhere"))
    assert not (tmp_path / "out").exists()


def test_a_hub_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    options = FetchOptions(repo="test/official", endpoint="http://127.0.0.1:9", cache=tmp_path / "cache")
    with pytest.raises(DataError, match="cannot be fetched from"):
        fetch("sp300", tmp_path / "out", options=options)


def test_the_documents_on_demand(options: FetchOptions, tmp_path: Path) -> None:
    fetch("byte260", tmp_path / "out", train_shards=0, options=replace(options, with_docs=True))
    assert (tmp_path / "out" / "docs_selected.jsonl").read_text() == '{"text": "x"}\n'
    assert (tmp_path / "out" / "docs_selected.source_manifest.json").exists()


def test_without_the_manifest(hub: Hub, options: FetchOptions, tmp_path: Path) -> None:
    (hub.repositories["test/official"] / "datasets" / "manifest.json").unlink()
    with pytest.raises(DataError, match="no manifest that speaks of fineweb10B_sp300") as caught:
        fetch("sp300", tmp_path / "out", train_shards=1, options=options)
    assert "--skip-manifest" in str(caught.value)
    fetch("sp300", tmp_path / "out", train_shards=1, options=replace(options, skip_manifest=True))
    assert not (tmp_path / "out" / "manifest.json").exists()
    # Nothing speaks for another split than the official one, and this is not it.
    with pytest.raises(DataError, match="the validation split is not the official one") as caught:
        open_dataset(tmp_path / "out", "sp300")
    assert "50,000 are wanted" in caught.value.evidence


def test_another_repository_is_not_mixed_in(options: FetchOptions, tmp_path: Path) -> None:
    fetch("sp300", tmp_path / "out", train_shards=1, options=options)
    with pytest.raises(DataError, match="is a good file, but not that of test/other"):
        fetch("sp300", tmp_path / "out", train_shards=1, options=replace(options, repo="test/other"))
    assert open_dataset(tmp_path / "out", "sp300")


def test_shards_that_the_repository_does_not_have(options: FetchOptions, tmp_path: Path) -> None:
    folder = tmp_path / "out" / "datasets" / "fineweb10B_sp300"
    write_shards(folder, "val", 4, 5)
    for path in find_shards(folder, "val")[:2]:
        path.unlink()
    with pytest.raises(DataError, match="holds shards that test/official does not have"):
        fetch("sp300", tmp_path / "out", train_shards=1, options=options)


def test_a_stale_manifest_is_replaced_and_others_are_kept(options: FetchOptions, tmp_path: Path) -> None:
    out = tmp_path / "out"
    fetch("byte260", out, train_shards=1, options=options)
    (out / "datasets" / "mine_sp300").mkdir()
    manifest = read_manifest(out / "manifest.json")
    entry = manifest.dataset("fineweb10B_sp300")
    assert entry
    stale = replace(entry, stats=DatasetStats(files_train=1, files_val=9))
    mine = replace(entry, name="mine_sp300")
    write_manifest(replace(manifest, datasets=(stale, mine)), out / "manifest.json")
    done = fetch("sp300", out, train_shards=1, options=options)
    assert done.replaced_manifest
    now = read_manifest(out / "manifest.json")
    assert (now.dataset("fineweb10B_sp300"), now.dataset("mine_sp300")) == (entry, mine)
    assert not fetch("sp300", out, train_shards=1, options=options).replaced_manifest


def test_the_doubled_layout_of_caseops(hub: Hub, options: FetchOptions, tmp_path: Path, model: Path) -> None:
    name = "fineweb10B_sp300_lossless_caps_caseops_v1_reserved"
    base = hub.repositories["test/other"] / "datasets"
    shutil.rmtree(base)
    place = base / "datasets" / "datasets" / name
    write_shards(place, "train", 2, 1)
    tokens = write_shards(place, "val", 1, 2)
    shutil.copy(place / "fineweb_val_000000.bin", place / "fineweb_val_bytes_000000.bin")
    (base / "datasets" / "tokenizers").mkdir()
    shutil.copy(model, base / "datasets" / "tokenizers" / "caseops.model")
    entry = DatasetEntry(
        name=name,
        tokenizer_name="caseops",
        vocab_size=300,
        val_bytes_glob="fineweb_val_bytes_*.bin",
        stats=DatasetStats(files_train=2, files_val=1, docs_val=val_documents_in(place), tokens_val=tokens),
    )
    tokenizer = TokenizerEntry(name="caseops", kind="sentencepiece", vocab_size=300, model_path="x/caseops.model")
    manifest = Manifest(tokenizers=(tokenizer,), datasets=(entry,))
    write_manifest(manifest, base / "datasets" / "manifest.json")
    variant = name.removeprefix("fineweb10B_")
    done = fetch(variant, tmp_path / "out", train_shards=2, options=replace(options, repo="test/other"))
    assert done.folder == tmp_path / "out" / "datasets" / name
    dataset = open_dataset(tmp_path / "out", variant)
    assert [path.name for path in dataset.val_bytes] == ["fineweb_val_bytes_000000.bin"]
    assert [path.name for path in dataset.val] == ["fineweb_val_000000.bin"]


def test_without_the_library_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UsageError, match=r"pip install 'paramgolf\[data\]'"):
        fetch("sp1024", tmp_path / "out")
