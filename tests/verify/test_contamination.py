"""Validation text in training shards: whole documents, edited copies, and text that is merely alike."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from planted import real_texts

from paramgolf.batch import BOS
from paramgolf.data.shards import ShardWriter, open_shard
from paramgolf.data.tokenizers import ByteTokenizer
from paramgolf.verify.contamination import GRAM, check_contamination, gram_hashes, measured_overlap, within_documents
from paramgolf.verify.ruling import Ruling, Verdict


def written(folder: Path, split: str, texts: list[str], shard_tokens: int = 3000) -> tuple[Path, ...]:
    with ShardWriter(folder, "text", split, shard_tokens=shard_tokens) as writer:
        for ids in ByteTokenizer().encode(texts):
            writer.write(np.concatenate(([BOS], ids)).astype(np.uint16))
    return writer.paths


@pytest.fixture(scope="module")
def texts() -> list[str]:
    return list(dict.fromkeys(real_texts(120, longest=300)))


def judged(folder: Path, train: list[str], val: list[str]) -> Ruling:
    (ruling,) = check_contamination(written(folder, "train", train), written(folder, "val", val))
    return ruling


def test_disjoint_splits_pass(tmp_path: Path, texts):
    assert judged(tmp_path, texts[:80], texts[80:]).verdict is Verdict.PASSED


def test_validation_documents_in_training_shards(tmp_path: Path, texts):
    """Across shard borders too."""
    ruling = judged(tmp_path, [*texts[:50], *texts[80:85], *texts[50:80]], texts[80:])
    assert ruling.verdict is Verdict.FAILED
    assert ruling.rules == ("contamination",)
    assert "5 training documents have the tokens of a validation document" in ruling.evidence
    assert "the first is training document 50, validation 0" in ruling.evidence


def test_edited_copies_are_found_by_their_grams(tmp_path: Path, texts):
    long = [text for text in texts[80:] if len(text) > 200][:4]
    edited = ["Preface. " + text[:150] + "!" + text[150:] + " The end." for text in long]
    ruling = judged(tmp_path, [*texts[:80], *edited], texts[80:])
    assert ruling.verdict is Verdict.FAILED
    assert "0 training documents have the tokens" in ruling.evidence
    assert (
        f"{len(long)} of {len(texts[80:])} validation documents have at least 80% of their 13-grams" in ruling.evidence
    )


def test_rare_reprints_are_disputed(tmp_path: Path, texts):
    """One of several hundred: as it is on the web."""
    random = np.random.Generator(np.random.PCG64(5))
    many = ["".join(random.permutation(list(text))) for _ in range(4) for text in texts[:80]]
    ruling = judged(tmp_path, [*texts[80:], many[17]], many)
    assert ruling.verdict is Verdict.DISPUTED
    assert [reading.verdict for reading in ruling.readings] == [Verdict.FAILED, Verdict.PASSED]


@given(st.lists(st.integers(1, 6), min_size=1, max_size=60), st.integers(0, 2**32))
def test_hashes_are_equal_just_where_the_tokens_are(ids: list[int], seed: int):
    tokens = np.array(ids, np.uint16)
    hashes = gram_hashes(tokens)
    assert len(hashes) == max(0, len(ids) - GRAM + 1)
    grams = [tuple(ids[i : i + GRAM]) for i in range(len(hashes))]
    assert len(set(grams)) == len(set(hashes.tolist()))
    inside = within_documents(tokens)
    assert inside.tolist() == [BOS not in gram for gram in grams]
    if grams:
        shuffled = np.random.Generator(np.random.PCG64(seed)).permutation(65536).astype(np.uint16)
        assert len(set(gram_hashes(shuffled).tolist())) == 65536 - GRAM + 1


def test_shares_are_those_of_a_plain_count(tmp_path: Path, texts):
    train = [*texts[:60], texts[90][:120], texts[95][40:]]
    paths = written(tmp_path, "train", train, 700), written(tmp_path, "val", texts[80:])
    overlap = measured_overlap(*([open_shard(path) for path in split] for split in paths))
    known = {g for ids in ByteTokenizer().encode(train) for g in zip(*(ids[k:].tolist() for k in range(GRAM)))}
    for number, ids in enumerate(ByteTokenizer().encode(texts[80:])):
        grams = list(zip(*(ids[k:].tolist() for k in range(GRAM))))
        if len(grams) >= 20:
            assert overlap.shares[number] == pytest.approx(sum(gram in known for gram in grams) / len(grams))
