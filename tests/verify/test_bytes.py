"""What bits per byte are divided by: known mistakes are named, right counts pass, for three kinds of tokenizers."""

import numpy as np
import pytest
import sentencepiece
from hypothesis import given
from hypothesis import strategies as st

from paramgolf.batch import BOS
from paramgolf.data.bytecount import CASEOPS
from paramgolf.data.tokenizers import ByteTokenizer, SentencePieceTokenizer, Tokenizer
from paramgolf.verify.byte_accounting import (
    OFFICIAL_BYTES,
    ByteClaim,
    byte_pieces,
    check_bytes,
    check_official_bytes,
    implied_bytes,
    true_bytes,
)
from paramgolf.verify.ruling import Ruling, Verdict

STRANGE = ["naïve café 日本語", "🙂 🙃 two  spaces", " leading", "tab\tand\nline", "ﬁne ½ \u00a0x"]


@pytest.fixture(scope="module")
def operators(texts, tmp_path_factory) -> SentencePieceTokenizer:
    """A vocabulary with the four operators of the case transform."""
    path = tmp_path_factory.mktemp("caseops") / "caseops.model"
    with path.open("wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(text.lower() for text in texts),
            model_writer=file,
            model_type="bpe",
            vocab_size=400,
            byte_fallback=True,
            normalization_rule_name="nmt_nfkc",
            add_dummy_prefix=False,
            pad_id=0,
            bos_id=BOS,
            eos_id=2,
            unk_id=3,
            user_defined_symbols=list(CASEOPS),
            minloglevel=3,
        )
    return SentencePieceTokenizer(path, threads=1)


def stream_of(tokenizer: Tokenizer, texts: list[str]) -> np.ndarray:
    return np.concatenate([np.concatenate(([BOS], ids)) for ids in tokenizer.encode(texts)]).astype(np.int64)


def counted(tokenizer: Tokenizer, tokens: np.ndarray) -> np.ndarray:
    return tokenizer.byte_table().count(tokens[:-1], tokens[1:]).astype(np.int64)


def judged(tokens: np.ndarray, tokenizer: Tokenizer, per_target: np.ndarray, **more: object) -> Ruling:
    (ruling,) = check_bytes(tokens, tokenizer, ByteClaim(int(per_target.sum()), per_target, **more))
    (by_total,) = check_bytes(tokens, tokenizer, ByteClaim(int(per_target.sum()), **more))
    assert (by_total.verdict, by_total.rules) == (ruling.verdict, ruling.rules), "a total alone says the same"
    return ruling


def test_honest_counts_pass(tokenizer, texts):
    for each in (tokenizer, ByteTokenizer()):
        tokens = stream_of(each, [*texts[:20], *STRANGE])
        ruling = judged(tokens, each, counted(each, tokens))
        assert ruling.verdict is Verdict.PASSED
        whole = sum(len(each.decode(ids).encode()) for ids in each.encode([*texts[:20], *STRANGE]))
        assert f"{whole:,} bytes" in ruling.evidence


def test_space_counted_twice(tokenizer, texts):
    tokens = stream_of(tokenizer, texts[:20])
    table = tokenizer.byte_table()
    doubled = counted(tokenizer, tokens) + table.has_leading_space[tokens[1:]]
    ruling = judged(tokens, tokenizer, doubled)
    assert ruling.verdict is Verdict.FAILED
    assert ruling.rules[0] == "space_twice"


def test_replacement_character_counted_as_three_bytes(tokenizer, texts):
    tokens = stream_of(tokenizer, [*texts[:20], *STRANGE])
    fallback = byte_pieces(tokenizer)[tokens[1:]]
    assert fallback.sum() > 10
    ruling = judged(tokens, tokenizer, counted(tokenizer, tokens) + 2 * fallback)
    assert ruling.verdict is Verdict.FAILED
    assert ruling.rules[0] == "replacement_bytes"


def test_case_operators_without_sidecar(operators, texts):
    cased = ["".join(f"\ue001{c.lower()}" if c.isupper() else c for c in text) for text in texts[:20]]
    tokens = stream_of(operators, cased)
    table = operators.byte_table()
    true = counted(operators, tokens) - 3 * table.is_caseop[tokens[1:]]
    assert judged(tokens, operators, true, sidecar=True).verdict is Verdict.PASSED
    ruling = judged(tokens, operators, counted(operators, tokens))
    assert ruling.verdict is Verdict.FAILED
    assert ruling.rules[0] == "sidecar"
    ruling = judged(tokens, operators, counted(operators, tokens), sidecar=True)
    assert ruling.rules[0] == "sidecar", "a sidecar that counts them is no better"


def test_bytes_shifted_between_documents_are_caught_though_the_sum_is_right(tokenizer, texts):
    tokens = stream_of(tokenizer, texts[:20])
    per_target = counted(tokenizer, tokens)
    per_target[3] += 5
    per_target[-3] -= 5
    (ruling,) = check_bytes(tokens, tokenizer, ByteClaim(int(per_target.sum()), per_target))
    assert ruling.verdict is Verdict.FAILED
    assert "2 of 20 documents differ, the first is 0" in ruling.evidence


@given(st.binary(max_size=60), st.integers(-3, 3))
def test_any_bytes_and_any_error(data: bytes, error: int):
    """Bytes that are no UTF-8 stand for themselves; an error of any size but none is caught."""
    tokenizer = ByteTokenizer()
    tokens = np.concatenate(([BOS], np.frombuffer(b"ab" + data, np.uint8).astype(np.int64) + 4, [BOS]))
    assert true_bytes(tokens, tokenizer).total == len(data) + 2
    (ruling,) = check_bytes(tokens, tokenizer, ByteClaim(len(data) + 2 + error))
    assert (ruling.verdict is Verdict.PASSED) == (error == 0)


@pytest.mark.parametrize(
    ("val_loss", "val_bpb", "tokens", "rule"),
    [
        (2.32202732, 1.06107587, 47_851_520, None),  # #1855
        (2.40073153, 1.00692894, 47_851_520, "sidecar"),  # #2071
        (2.79180191, 1.08079352, 40_540_160, None),  # 2026-04-09
        (2.79180191, 1.08079352 / 1.1672, 40_540_160, "space_twice"),
        (2.07269931, 1.2243657, 62_021_632, None),  # baseline
    ],
)
def test_scores_of_real_entries_imply_their_bytes(val_loss, val_bpb, tokens, rule):
    total = implied_bytes(val_loss, val_bpb, tokens)
    (ruling,) = check_official_bytes(ByteClaim(total), tokens)
    assert (ruling.verdict is Verdict.PASSED) == (rule is None), (total / OFFICIAL_BYTES, ruling)
    assert rule is None or ruling.rules[0] == rule
