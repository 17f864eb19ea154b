"""Our own evaluators before the judge: everything that adapts, on one small packed model."""

from dataclasses import replace

import pytest
import torch
from planted import real_tokens, small_model
from tiny import tiny_run

from paramgolf.contest import Contest
from paramgolf.evaluate.adapt import AdapterConfig
from paramgolf.evaluate.documents import Documents
from paramgolf.techniques.data import Packed
from paramgolf.techniques.evaluate import SGDTTT, LoraTTT, NgramMixture, NgramTilt, PhasedTTT, Sliding
from paramgolf.train.distributed import Place
from paramgolf.verify.adapter import CostEar
from paramgolf.verify.judge import Case, Effort, judge
from paramgolf.verify.predictor import TokenStream
from paramgolf.verify.ruling import Judgement, Verdict
from paramgolf.verify.run_target import evaluated_model

ADAPTERS = AdapterConfig(rank=2, alpha=4.0, lr=0.1, documents=2, chunk=64)


def judged(*only: str, protocol: object, on_logits: tuple = (), documents: int = 4) -> Judgement:
    run = tiny_run()
    run = replace(
        run,
        data=replace(run.data, loader=Packed()),
        model=replace(run.model, context=256),
        evaluate=replace(run.evaluate, protocol=protocol, on_logits=on_logits, batch_tokens=128),
    )
    predictor = evaluated_model(run, small_model(context=256), Place(torch.device("cpu")))
    stream = TokenStream(real_tokens(documents), 260)
    case = Case(target="ours", kind="predictor", contest=Contest(), predictor=predictor, stream=stream)
    return judge(case, Effort(only=only, cuts=2, enumeration_places=1, enumeration_seconds=600))


PROBING = ("causality", "normalization", "update", "coverage", "isolation")
OURS = {
    "documents": (Documents(), ()),
    "sliding": (Sliding(stride=16), ()),
    "sgd": (SGDTTT(chunk=64, lr=0.5), ()),
    "tilt": (Documents(), (NgramTilt(order=3),)),
    "mixture": (Documents(), (NgramMixture(),)),
    "lora": (LoraTTT(adapters=ADAPTERS), ()),
    "phased": (PhasedTTT(adapters=ADAPTERS, prefix=2, phases=1), ()),
}


@pytest.mark.parametrize("name", OURS)
def test_ours_break_no_rule(name: str):
    """Those that read documents longest first are disputed, as the records are; nothing is broken."""
    protocol, on_logits = OURS[name]
    judgement = judged(*PROBING, protocol=protocol, on_logits=on_logits)
    broken = [ruling for ruling in judgement.rulings if ruling.verdict is Verdict.FAILED]
    assert not broken
    disputed = {ruling.check for ruling in judgement.rulings if ruling.verdict is Verdict.DISPUTED}
    assert disputed <= ({"causality"} if name in ("lora", "phased") else set())
    (normalized,) = [ruling for ruling in judgement.rulings if ruling.check == "normalization"]
    assert normalized.said.startswith("every distribution sums to one, holds for any target")
    if name in ("sgd", "lora", "phased"):
        assert any("the predictor learns from the stream" in ruling.said for ruling in judgement.rulings)


def test_a_tilt_is_normalized_at_every_token(monkeypatch: pytest.MonkeyPatch):
    """Without looking inside: the whole vocabulary in the target's place, scored by the evaluator itself."""
    monkeypatch.setattr(CostEar, "distributions", lambda self, scored, asked: {})
    protocol, on_logits = OURS["tilt"]
    (ruling,) = judged("normalization", protocol=protocol, on_logits=on_logits, documents=2).rulings
    assert ruling.verdict is Verdict.PASSED
    assert "260 of 260 tokens sum to 1.0000" in ruling.evidence
