import os
from pathlib import Path

import numpy as np
import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st

from paramgolf.batch import BOS
from paramgolf.data.tokenizers import (
    ByteTokenizer,
    SentencePieceTokenizer,
    Tokenizer,
    clean_text,
    load_tokenizer,
    train_sentencepiece,
)
from paramgolf.errors import DataError, UsageError

ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=60)
"""Lone surrogates included."""


def raw_train(path: Path, text: str, **settings: object) -> Path:
    """A model made without our guards."""
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([text] * 20),
        model_prefix=str(path.with_suffix("")),
        model_type="bpe",
        hard_vocab_limit=False,
        minloglevel=3,
        **{"pad_id": 0, "bos_id": 1, "eos_id": 2, "unk_id": 3, **settings},
    )
    return path


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("a\0b", "a b"),
        ("\0 a \n\0", "a"),
        ("a\ud800b", "a\ufffdb"),
        ("\ud83d\ude00", "\U0001f600"),
        ("\udcff", "\ufffd"),
        (" \t\n", ""),
    ],
)
def test_text_is_cleaned(text: str, clean: str) -> None:
    assert clean_text(text) == clean


@settings(deadline=None)
@given(ANY_TEXT)
def test_clean_text_is_valid_and_stays_as_it_is(text: str) -> None:
    clean = clean_text(text)
    clean.encode()
    assert clean_text(clean) == clean


@settings(deadline=None)
@given(ANY_TEXT)
def test_bytes_decode_to_the_cleaned_text(text: str) -> None:
    tokenizer = ByteTokenizer()
    (ids,) = tokenizer.encode([text])
    assert ids.dtype == np.uint16
    assert tokenizer.decode(ids) == clean_text(text)
    assert ids.tolist() == [4 + byte for byte in clean_text(text).encode()]


def test_bytes_replace_what_is_not_utf8_and_skip_specials() -> None:
    assert ByteTokenizer().decode(np.array([BOS, 4 + 0xC3, 4 + 65, 2])) == "\ufffdA"


@settings(deadline=None)
@given(st.text("abcXYZ019 .,\n\t\0'\"\u00e9\u65e5\U0001f600", max_size=60))
def test_sentencepiece_decodes_to_the_text_with_single_spaces(sp: SentencePieceTokenizer, text: str) -> None:
    (ids,) = sp.encode([text])
    assert ids.dtype == np.uint16
    assert BOS not in ids
    assert sp.decode(ids) == " ".join(text.replace("\0", " ").split())


def test_batches_and_threads_change_nothing(sp_model: Path, sp: SentencePieceTokenizer, texts: list[str]) -> None:
    many = SentencePieceTokenizer(sp_model, threads=3).encode(texts)
    assert [ids.tolist() for ids in many] == [sp.encode([text])[0].tolist() for text in texts]


def test_empty_texts_have_no_ids(sp: SentencePieceTokenizer) -> None:
    for tokenizer in (sp, ByteTokenizer()):
        assert [len(ids) for ids in tokenizer.encode(["", " \0 ", "a"])][:2] == [0, 0]
        assert tokenizer.encode([]) == []


@pytest.mark.parametrize("kind", ["sentencepiece", "bytes"])
def test_an_enormous_document_is_encoded_whole(kind: str, sp: SentencePieceTokenizer) -> None:
    tokenizer: Tokenizer = sp if kind == "sentencepiece" else ByteTokenizer()
    text = "\u65e5" * 6_700_000  # 20 MB; outside the vocabulary, so the model's own merging is cheap
    (ids,) = tokenizer.encode([text])
    assert len(ids) == 20_100_000
    assert tokenizer.decode(ids[-9:]) == "\u65e5" * 3


def test_training_is_deterministic_and_official(texts: list[str], tmp_path: Path) -> None:
    texts = [f"{text} in 2024" for text in texts]
    first = train_sentencepiece(iter(texts), 400, tmp_path / "a" / "one.model")
    second = train_sentencepiece(iter(texts), 400, tmp_path / "two.model")
    assert first.read_bytes() == second.read_bytes()
    assert os.listdir(first.parent) == ["one.model"]
    tokenizer = load_tokenizer(first)
    assert isinstance(tokenizer, SentencePieceTokenizer)
    processor = tokenizer.processor
    assert (processor.pad_id(), processor.bos_id(), processor.eos_id(), processor.unk_id()) == (0, 1, 2, 3)
    assert (tokenizer.vocab, tokenizer.name, tokenizer.kind, tokenizer.bos) == (400, "one", "sentencepiece", 1)
    assert processor.is_byte(processor.piece_to_id("<0xE2>"))
    assert processor.encode("in 2024", out_type=str)[-4:] == ["2", "0", "2", "4"]
    assert processor.encode("a", out_type=str) == ["a"]  # no dummy prefix
    assert processor.encode("\ufb01n\n\n x", out_type=int) == processor.encode("fin x", out_type=int)  # nmt_nfkc


def test_training_says_nothing(texts: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    train_sentencepiece(texts, 400, tmp_path / "quiet.model")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("texts", "vocab", "evidence"),
    [
        ([], 300, "0 documents"),
        (["a b"] * 50, 5000, "the trainer found only"),
        (["abcabc"] * 50, 264, "no text contains a space"),
        (["a b c d e f g h " * 1000], 300, "1 documents are longer than 4,192 bytes"),
        (["many characters here"] * 50, 262, "required_chars"),
    ],
)
def test_too_little_text_is_refused(texts: list[str], vocab: int, evidence: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        train_sentencepiece(texts, vocab, tmp_path / "no.model")
    assert evidence in caught.value.evidence
    assert os.listdir(tmp_path) == []


def test_long_documents_can_be_let_in(tmp_path: Path) -> None:
    text = " ".join(f"word{i % 7} other{i % 11}" for i in range(2000))
    out = train_sentencepiece([text], 290, tmp_path / "long.model", max_document_bytes=100_000)
    assert load_tokenizer(out).vocab == 290


def test_vocabulary_without_a_space_piece_is_refused(tmp_path: Path) -> None:
    """Issue #897: a bare space would fall back to three byte pieces and count three bytes."""
    model = raw_train(
        tmp_path / "spaceless.model", "abcabdab", vocab_size=270, byte_fallback=True, add_dummy_prefix=False
    )
    with pytest.raises(DataError, match=r"issue #897"):
        SentencePieceTokenizer(model)


def test_a_vocabulary_that_opens_documents_with_another_id_is_refused(tmp_path: Path) -> None:
    model = raw_train(tmp_path / "other.model", "a b c ab", vocab_size=12, bos_id=2, eos_id=1)
    with pytest.raises(DataError, match="opens documents with id 2"):
        SentencePieceTokenizer(model)


def test_files_that_are_no_model_are_refused(tmp_path: Path) -> None:
    (tmp_path / "bad.model").write_bytes(b"not a model")
    with pytest.raises(DataError, match="11 bytes that are not a SentencePiece model"):
        load_tokenizer(tmp_path / "bad.model")
    with pytest.raises(DataError, match="No such file"):
        load_tokenizer(tmp_path / "none.model")
    with pytest.raises(UsageError, match="byte260"):
        load_tokenizer("sp1024")


def test_fingerprints_tell_models_apart(sp: SentencePieceTokenizer, texts: list[str], tmp_path: Path) -> None:
    other = load_tokenizer(train_sentencepiece(texts, 400, tmp_path / "other.model"))
    prints = {sp.fingerprint, other.fingerprint, load_tokenizer("byte260").fingerprint}
    assert len(prints) == 3
    assert {len(one) for one in prints} == {12}
