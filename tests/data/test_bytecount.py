"""Byte counts against decoding, and the published accounting bugs (D6) by name."""

from pathlib import Path

import numpy as np
import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st

from paramgolf.batch import BOS
from paramgolf.data.bytecount import byte_table, caseops_source_bytes
from paramgolf.data.tokenizers import ByteTokenizer, SentencePieceTokenizer, Tokenizer


def counted(tokenizer: Tokenizer, ids: np.ndarray) -> np.ndarray:
    """Bytes of each of `ids` in a document of their own."""
    framed = np.concatenate(([BOS], ids)).astype(np.uint16)
    return tokenizer.byte_table().count(framed[:-1], framed[1:])


@settings(deadline=None, max_examples=300)
@given(text=st.text(st.characters(exclude_categories=()), max_size=60))
def test_counts_are_the_bytes_of_the_decoded_text(sp: SentencePieceTokenizer, text: str) -> None:
    for tokenizer in (sp, ByteTokenizer()):
        (ids,) = tokenizer.encode([text])
        assert counted(tokenizer, ids).sum() == len(tokenizer.decode(ids).encode())


def test_counts_of_real_text(sp: SentencePieceTokenizer, texts: list[str]) -> None:
    for text, ids in zip(texts, sp.encode(texts), strict=True):
        assert counted(sp, ids).sum() == len(" ".join(text.split()).encode())


def test_shape_and_type(sp: SentencePieceTokenizer) -> None:
    table = sp.byte_table()
    assert (table.base_bytes.dtype, table.has_leading_space.dtype, table.is_boundary.dtype) == (np.int16, bool, bool)
    assert len(table.base_bytes) == len(table.is_boundary) == sp.vocab
    counts = table.count(np.ones((2, 3), np.int64), np.full((2, 3), 300))
    assert (counts.shape, counts.dtype) == ((2, 3), np.int32)


def test_special_ids_are_boundaries_without_bytes(sp: SentencePieceTokenizer) -> None:
    for table in (sp.byte_table(), ByteTokenizer().byte_table()):
        assert table.is_boundary[:4].all()
        assert not table.is_boundary[4:].any()
        assert not table.base_bytes[:4].any()


def test_space_at_the_start_of_a_document_is_not_counted(sp: SentencePieceTokenizer) -> None:
    space_word = next(i for i in range(sp.vocab) if sp.processor.id_to_piece(i) == "\u2581the")
    table = sp.byte_table()
    assert table.count(np.array([BOS, 300]), np.array([space_word] * 2)).tolist() == [3, 4]


def test_bug_leading_space_counted_twice(sp: SentencePieceTokenizer) -> None:
    """PRs #1545 … #1712 put the space into the base bytes and added it again at evaluation."""
    (ids,) = sp.encode(["in the end"])
    table = sp.byte_table()
    spaces = int(table.has_leading_space[ids].sum())
    assert spaces == 2
    assert counted(sp, ids).sum() == len("in the end")
    assert table.base_bytes[ids].sum() == len("in the end") - spaces


def test_bug_partial_utf8_counted_as_replacement_characters(sp: SentencePieceTokenizer) -> None:
    """PRs #1143 … #1289 decoded pieces one by one: each part of a character became U+FFFD, three bytes."""
    (ids,) = sp.encode(["a \u65e5 b"])
    assert counted(sp, ids).sum() == len("a \u65e5 b".encode()) == 7
    one_by_one = sum(len(sp.decode(ids[i : i + 1]).encode()) for i in range(len(ids)))
    assert one_by_one > 7


def test_bug_bare_space_counted_as_three_bytes(sp: SentencePieceTokenizer) -> None:
    """Issue #897; vocabularies without the piece are refused (test_tokenizers)."""
    (ids,) = sp.encode(["a \u65e5"])
    assert sp.processor.id_to_piece(int(ids[1])) == "\u2581"
    assert counted(sp, ids).tolist() == [1, 1, 1, 1, 1]


def test_bug_operators_counted_as_text(caseops_tokenizer: SentencePieceTokenizer) -> None:
    """PR #2071: plain tables give each operator three bytes. They are marked; validation refuses them unaided."""
    table = caseops_tokenizer.byte_table()
    assert np.flatnonzero(table.is_caseop).tolist() == [4, 5, 6, 7]
    assert table.base_bytes[4:8].tolist() == [3, 3, 3, 3]


def test_unused_pieces_and_byte_pieces(tmp_path: Path) -> None:
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["a b ab"] * 9),
        model_prefix=str(tmp_path / "m"),
        model_type="bpe",
        vocab_size=270,
        byte_fallback=True,
        hard_vocab_limit=False,
        control_symbols=["<ctl>"],
        pad_id=0,
        bos_id=1,
        eos_id=2,
        unk_id=3,
        minloglevel=3,
    )
    processor = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "m.model"))
    table = byte_table(processor)
    control, first_byte = processor.piece_to_id("<ctl>"), processor.piece_to_id("<0x00>")
    assert table.is_boundary[control]
    assert table.base_bytes[control] == 0
    assert (table.base_bytes[first_byte : first_byte + 256] == 1).all()


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("plain", "plain"),
        ("\ue001title \ue002caps", "Title CAPS"),
        ("i\ue003phone", "iPhone"),
        ("x\ue004\ue001y", "x\ue001y"),
        ("\ue004\ue004\ue001\u00e9a", "\ue004\u00e9A"),
    ],
)
def test_case_operators_are_no_bytes_of_the_source(text: str, source: str) -> None:
    assert caseops_source_bytes(text) == len(source.encode())
