"""The case transform: the published rules, the exact inverse, the bytes, and data prepared with it."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paramgolf.batch import BOS
from paramgolf.data.bytecount import CASEOPS
from paramgolf.data.caseops import CASEOPS_SUFFIX, apply_caseops, undo_caseops
from paramgolf.data.check import check_folder
from paramgolf.data.corpora import open_corpus, require_official_split, validation_count
from paramgolf.data.dataset import open_dataset, prepared
from paramgolf.data.prepare import prepare
from paramgolf.data.preparing import PrepareOptions
from paramgolf.data.shards import open_shard, open_sidecar
from paramgolf.data.tokenizers import CaseOpsTokenizer, SentencePieceTokenizer, clean_text, load_tokenizer
from paramgolf.data.validation import validation_stream
from paramgolf.data.variants import parse_variant
from paramgolf.errors import DataError, UsageError

TITLE, ALLCAPS, CAPNEXT, ESC = CASEOPS

awkward = st.text(
    st.one_of(st.sampled_from("aAbBzZ \0.\u00e9\u00c9\ue000\ue005" + CASEOPS), st.characters(exclude_categories=())),
    max_size=40,
)
"""Any code point, lone surrogates too; letters and operators close together."""


@pytest.mark.parametrize(
    ("text", "transformed"),
    [
        ("plain words", "plain words"),
        ("Title I", f"{TITLE}title {TITLE}i"),
        ("NASA's OK", f"{ALLCAPS}nasa's {ALLCAPS}ok"),
        ("iPhone McXY aBC", f"i{CAPNEXT}phone {TITLE}mc{CAPNEXT}x{CAPNEXT}y a{CAPNEXT}b{CAPNEXT}c"),
        ("x\ue001y\ue004\ue000", f"x{ESC}\ue001y{ESC}\ue004\ue000"),
        ("\u00c9A\u00e9B 4K", f"\u00c9{TITLE}a\u00e9{TITLE}b 4{TITLE}k"),
        ("", ""),
    ],
)
def test_the_published_rules(text: str, transformed: str) -> None:
    assert apply_caseops([text]) == [transformed]
    assert undo_caseops(transformed) == text


def one_by_one(text: str) -> str:
    """The transform, a run at a time."""

    def run(found: re.Match[str]) -> str:
        word = found[0]
        if word in CASEOPS:
            return ESC + word
        if len(word) > 1 and word.isupper():
            return ALLCAPS + word.lower()
        rest = re.sub("[A-Z]", lambda capital: CAPNEXT + capital[0].lower(), word[1:])
        return (TITLE + word[0].lower() if word[0].isupper() else word[0]) + rest

    return re.sub(f"[A-Za-z]*[A-Z][A-Za-z]*|[{CASEOPS}]", run, text)


@given(st.lists(awkward, max_size=4))
def test_any_texts_at_once_as_one_by_one_and_back(texts: list[str]) -> None:
    made = apply_caseops(texts)
    assert made == [one_by_one(text) for text in texts]
    assert [undo_caseops(text) for text in made] == texts


@given(awkward)
def test_whatever_a_model_writes_decodes(text: str) -> None:
    assert len(undo_caseops(text)) >= len(re.sub(f"[{CASEOPS}]", "", text))


def test_operators_with_nothing_to_act_on_are_dropped() -> None:
    assert undo_caseops(f"{TITLE} a{CAPNEXT}{ALLCAPS}1{TITLE}\u00e9{ALLCAPS}b{ESC}") == " a1\u00e9B"
    assert undo_caseops(f"{ESC}{ESC}{ESC}{TITLE}a{ESC}{ESC}{TITLE}a") == f"{ESC}{TITLE}a{ESC}A"


def test_the_operators_are_ids_4_to_7(caseops_tokenizer: CaseOpsTokenizer, sp_model: Path) -> None:
    assert [caseops_tokenizer.processor.piece_to_id(operator) for operator in CASEOPS] == [4, 5, 6, 7]
    (ids,) = caseops_tokenizer.encode(["NASA"])
    assert ids[0] == 5
    assert 5 not in ids[1:]
    assert type(load_tokenizer(caseops_tokenizer.path)) is CaseOpsTokenizer
    assert type(load_tokenizer(sp_model)) is SentencePieceTokenizer


@given(awkward)
def test_the_sidecar_counts_the_decoded_text(caseops_tokenizer: CaseOpsTokenizer, text: str) -> None:
    (ids,) = caseops_tokenizer.encode([text])
    counts = caseops_tokenizer.sidecar(np.concatenate(([BOS], ids)).astype(np.uint16))
    assert counts[0] == 0
    assert counts.sum() == len(caseops_tokenizer.decode(ids).encode())


@given(st.text(st.sampled_from("abC.,\ue001\ue004 "), max_size=30))
def test_normalized_text_comes_back(caseops_tokenizer: CaseOpsTokenizer, text: str) -> None:
    (ids,) = caseops_tokenizer.encode([text])
    assert caseops_tokenizer.decode(ids) == " ".join(clean_text(text).split())


def test_same_bytes_as_another_vocabulary(caseops_tokenizer: CaseOpsTokenizer, sp, texts: list[str]) -> None:
    """Bits per byte of the two compare: their denominators are one."""
    for text, ids in zip(texts, caseops_tokenizer.encode(texts), strict=True):
        counts = caseops_tokenizer.sidecar(np.concatenate(([BOS], ids)).astype(np.uint16))
        assert not counts[1:][np.isin(ids, range(4, 8))].any()
        assert counts.sum() == len(sp.decode(sp.encode([text])[0]).encode()) == len(" ".join(text.split()).encode())


def test_variants(caseops_tokenizer: CaseOpsTokenizer, sp_model: Path) -> None:
    wanted = parse_variant(f"sp8192{CASEOPS_SUFFIX}")
    assert (wanted.vocab, wanted.model, wanted.caseops) == (8192, None, True)
    assert not parse_variant("sp8192").caseops
    own = caseops_tokenizer.path
    for text in (str(own), f"512={own}", f"sp512={own}", f"sp512{CASEOPS_SUFFIX}={own}"):
        assert parse_variant(text)[:2] == (f"sp512{CASEOPS_SUFFIX}", 512)
    with pytest.raises(DataError, match="without operators of the case transform; asked for 512 with them"):
        parse_variant(f"sp512{CASEOPS_SUFFIX}={sp_model}")
    with pytest.raises(UsageError, match="is not a tokenizer variant"):
        parse_variant("sp512_caseops")


@pytest.fixture(scope="module")
def corpus_file(texts: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("corpus") / "small.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in [*texts, "A\ue001B end"]))
    return path


@pytest.fixture(scope="module")
def caseops_data(corpus_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`corpus_file` prepared with a vocabulary of its own and one that knows no case."""
    out = tmp_path_factory.mktemp("prepared")
    options = PrepareOptions(val_documents=60, shard_tokens=3000, workers=2)
    prepare(open_corpus(corpus_file), out, variant=f"sp400{CASEOPS_SUFFIX}", options=options)
    prepare(open_corpus(corpus_file), out, variant="sp400", options=options)
    return out


def test_prepared_data_has_sidecars(caseops_data: Path, texts: list[str]) -> None:
    data, plain = open_dataset(caseops_data, f"sp400{CASEOPS_SUFFIX}"), open_dataset(caseops_data, "sp400")
    assert data.name == f"small_sp400{CASEOPS_SUFFIX}"
    assert isinstance(data.tokenizer, CaseOpsTokenizer)
    assert len(data.val_bytes) == len(data.val) > 2
    assert plain.val_bytes == ()
    for shard, sidecar in zip(data.val, data.val_bytes, strict=True):
        assert open_shard(shard).tokens == open_sidecar(sidecar).tokens
    stream = validation_stream(data.val, data.tokenizer, sidecars=data.val_bytes)
    same = validation_stream(plain.val, plain.tokenizer)
    true = sum(len(" ".join(text.split()).encode()) for text in texts[:60])
    assert stream.target_bytes.sum() == same.target_bytes.sum() == true
    (entry,) = (
        e for e in json.loads((caseops_data / "manifest.json").read_text())["datasets"] if e["name"] == data.name
    )
    assert entry["text_transform"] == "lossless_caps_caseops_v1"
    assert entry["val_bytes_glob"].endswith("small_val_bytes_*.bin")
    assert {path.name for path in data.val_bytes} < {shard["name"] for shard in entry["shards"]}
    assert check_folder(caseops_data, hashes=True) == []


def test_data_without_its_sidecars_is_refused_and_made_again(caseops_data: Path, corpus_file: Path, tmp_path) -> None:
    source, variant = str(corpus_file), f"sp400{CASEOPS_SUFFIX}"
    options = PrepareOptions(val_documents=60, workers=1)
    data = prepared(source, variant=variant, root=tmp_path, options=options)
    data.val_bytes[0].unlink()
    with pytest.raises(DataError, match="is not complete"):
        open_dataset(data.val[0].parent)
    again = prepared(source, variant=variant, root=tmp_path, options=replace(options, overwrite=True))
    assert (again.fingerprint, again.val_bytes) == (data.fingerprint, data.val_bytes)


def test_tokenizers_side_by_side_without_a_manifest(caseops_data: Path) -> None:
    manifest = caseops_data / "manifest.json"
    hidden = manifest.rename(caseops_data / "hidden.json")
    try:
        assert isinstance(open_dataset(caseops_data, f"sp400{CASEOPS_SUFFIX}").tokenizer, CaseOpsTokenizer)
        assert not isinstance(open_dataset(caseops_data, "sp400").tokenizer, CaseOpsTokenizer)
    finally:
        hidden.rename(manifest)


def test_the_official_documents_have_the_official_split(tmp_path: Path) -> None:
    path = tmp_path / "docs_selected.jsonl"
    path.write_text('{"text": "x"}\n')
    corpus = open_corpus(path)
    assert validation_count(corpus) == 50_000
    require_official_split(corpus, 50_000)
    require_official_split(corpus, None)
    with pytest.raises(UsageError, match="first 50,000 documents, not 10,000"):
        require_official_split(corpus, 10_000)
    require_official_split(open_corpus(path.rename(tmp_path / "other.jsonl")), 3)
