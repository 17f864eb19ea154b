"""Planted cheats in how a predictor scores, each caught by the rule that names it, and honest twins that pass."""

from collections.abc import Callable

import numpy as np
import planted
import planted_counts
import planted_learners
import pytest
from planted import VOCAB, packed, real_tokens, small_model

from paramgolf.batch import BOS
from paramgolf.contest import Contest
from paramgolf.data.tokenizers import SentencePieceTokenizer
from paramgolf.verify.judge import Case, Effort, judge
from paramgolf.verify.predictor import Predictor, TokenStream
from paramgolf.verify.ruling import Judgement, Verdict

PROBING = ("causality", "normalization", "update", "coverage", "isolation")
SHORT = {"HashedNgram", "BestOfTwo", "Silent"}
"""Predictors without distributions: every token is tried in a target's place, so the stream is short."""


@pytest.fixture(scope="module")
def model():
    return small_model()


def judged(predictor: Predictor, documents: int = 6, **effort: object) -> Judgement:
    stream = TokenStream(real_tokens(documents), VOCAB)
    case = Case(target="planted", kind="predictor", contest=Contest(), predictor=predictor, stream=stream)
    return judge(case, Effort(only=PROBING, cuts=6, enumeration_places=2, enumeration_seconds=600, **effort))


def broken(judgement: Judgement) -> dict[str, tuple[str, ...]]:
    """Check -> rules of its failures."""
    failures = [ruling for ruling in judgement.rulings if ruling.verdict is Verdict.FAILED]
    assert all(ruling.evidence and ruling.rules for ruling in failures)
    return {ruling.check: ruling.rules for ruling in failures}


CHEATS: list[tuple[type, str, str]] = [
    (planted.FutureLeak, "causality", "causality"),
    (planted.OffByOne, "normalization", "target_in_key"),
    (planted_learners.TrainThenScore, "score before update", "score_first"),
    (planted_learners.TrainedOnAll, "score before update", "score_first"),
    (planted_learners.RescoredPass, "score before update", "one_pass"),
    (planted_learners.ScoredTwice, "one pass, every target once", "one_pass"),
    (planted_learners.Slot, "score before update", "slot"),
    (planted.RefittedTemperature, "score before update", "slot"),
    (planted.BestOfTwo, "normalization", "normalization"),
    (planted_counts.HashedNgram, "normalization", "normalization"),
    (planted_counts.TargetInKey, "normalization", "target_in_key"),
    (planted.WordGate, "normalization", "target_in_key"),
    (planted.OtherCost, "normalization", "normalization"),
    (planted.SkippedTail, "one pass, every target once", "coverage"),
    (planted.DoubledTail, "one pass, every target once", "coverage"),
    (planted_learners.Remembering, "one pass, every target once", "one_pass"),
]


@pytest.mark.parametrize(("cheat", "check", "rule"), CHEATS, ids=lambda item: getattr(item, "__name__", None))
def test_cheats_are_caught_by_the_right_rule(cheat: type, check: str, rule: str, model):
    found = broken(judged(cheat(model), 3 if cheat.__name__ in SHORT else 6))
    assert check in found, found
    assert rule in found[check], found


HONEST = [
    planted.Rows,
    planted.Silent,
    planted.PastTemperature,
    planted_learners.ScoreThenTrain,
    planted_learners.CausalSlot,
    planted_counts.NormalizedNgram,
    planted.GatedOnPrefix,
]


@pytest.mark.parametrize("twin", HONEST, ids=lambda item: item.__name__)
def test_honest_twins_pass(twin: type, model):
    judgement = judged(twin(model), 3 if twin.__name__ in SHORT else 6)
    assert judgement.verdict is Verdict.PASSED, [r for r in judgement.rulings if r.verdict is not Verdict.PASSED]


@pytest.mark.parametrize("share", [0.5, 0.0], ids=["byte mixture", "token model"])
def test_probability_spread_over_bytes(share: float, tokenizer: SentencePieceTokenizer, texts: list[str]):
    """p^(1/n) for every byte, mixed with a model of bytes: no distribution over tokens, unless nothing is mixed in."""
    pieces = [tokenizer.processor.id_to_piece(i).replace("\u2581", " ").encode() for i in range(tokenizer.vocab)]
    ids = np.concatenate([np.concatenate(([BOS], part)) for part in tokenizer.encode(texts[:2])]).astype(np.int64)
    cheat = planted.ByteSpread(small_model(tokenizer.vocab), pieces, share)
    stream = TokenStream(ids, tokenizer.vocab)
    case = Case(target="planted", kind="predictor", contest=Contest(), predictor=cheat, stream=stream)
    found = broken(judge(case, Effort(only=("normalization",), cuts=2)))
    assert found == ({"normalization": ("normalization", "byte_mixture")} if share else {})


@pytest.mark.parametrize(
    ("make", "fails"), [(planted.leaky_smeared_model, True), (planted.smeared_model, False)], ids=["leaky", "masked"]
)
def test_smear_across_documents(make: Callable, fails: bool):
    judgement = judged(packed(make()), 3, skip=("normalization",))
    assert ("isolation" in broken(judgement).get("document isolation", ())) == fails
    if fails:
        ruling = next(r for r in judgement.rulings if r.check == "document isolation")
        assert "at the first targets after BOS" not in ruling.said or ruling.evidence
    else:
        assert judgement.verdict is Verdict.PASSED


def test_longest_first_is_disputed_with_both_readings(model):
    judgement = judged(planted_learners.LongestFirst(model))
    assert judgement.verdict is Verdict.DISPUTED
    (ruling,) = [r for r in judgement.rulings if r.verdict is Verdict.DISPUTED]
    assert ruling.check == "causality"
    assert {reading.verdict for reading in ruling.readings} == {Verdict.PASSED, Verdict.FAILED}
    assert "service_order" in ruling.rules


def test_a_tail_cut_as_the_official_script_does_is_disputed(model):
    judgement = judged(planted.CutTail(model), skip=("normalization",))
    assert judgement.verdict is Verdict.DISPUTED
    (ruling,) = [r for r in judgement.rulings if r.verdict is Verdict.DISPUTED]
    assert "official script" in ruling.readings[0].name
