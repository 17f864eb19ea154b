"""Heads: tied in low rank, untied, capped."""

import math

import pytest
import torch
from token_batches import plain_rows, random, random_part, small_model
from torch import Tensor

from paramgolf.model.gpt import parameter_count
from paramgolf.model.slots import LogitMap
from paramgolf.techniques.model import (
    AsymLogit,
    FactorizedEmbedding,
    PolySoftcap,
    SigmoidSoftcap,
    TanhSoftcap,
    UntiedEmbedding,
)

LOGITS = torch.linspace(-60, 60, 241)


@pytest.mark.parametrize("bias", [False, True])
def test_factorized(bias: bool):
    model = small_model(embedding=FactorizedEmbedding(rank=6, bias=bias))
    part = random_part(model.embedding)
    ids, x = plain_rows().ids, random(2, 9, 32)
    torch.testing.assert_close(part.embed(ids), part.weight[ids] @ part.into.weight.mT)
    expected = x @ part.back.weight.mT @ part.weight.mT + (part.bias if bias else 0)
    torch.testing.assert_close(model.logits(x), expected)
    assert parameter_count(part) == 64 * 6 + 2 * 6 * 32 + (64 if bias else 0)


def test_the_bias_of_the_head_is_added_in_full_precision():
    model = small_model(embedding=FactorizedEmbedding(rank=6))
    with torch.no_grad():
        model.embedding.bias.copy_(10 + torch.arange(64) / 1000)
    logits = model.logits(torch.zeros(1, 1, 32, dtype=torch.bfloat16))
    assert torch.equal(logits[0, 0], model.embedding.bias)


def test_untied():
    model = small_model(embedding=UntiedEmbedding())
    assert parameter_count(model.embedding) == 2 * 64 * 32
    torch.testing.assert_close(model.loss(plain_rows()).item(), math.log(64))
    part = random_part(model.embedding)
    ids, x = plain_rows().ids, random(2, 9, 32)
    assert torch.equal(part.embed(ids), part.weight[ids])
    torch.testing.assert_close(model.logits(x), x @ part.head.mT)


@pytest.mark.parametrize(
    ("cap", "formula"),
    [
        (PolySoftcap(cap=10.0), lambda z: 10 * poly(max(-2.0, min(2.0, z / 10)))),
        (SigmoidSoftcap(), lambda z: 23 / (1 + math.exp(-(z + 5) / 7.5))),
        (AsymLogit(cap=20.0), lambda z: 20 * math.tanh(z / 20)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_softcaps(cap: LogitMap, formula):
    expected = torch.tensor([formula(z) for z in LOGITS.tolist()])
    torch.testing.assert_close(cap(LOGITS), expected, rtol=1e-5, atol=1e-5)
    model = small_model(softcap=cap, embedding=UntiedEmbedding(head_std=1.0))
    x = 10 * random(2, 9, 32)
    torch.testing.assert_close(model.logits(x), cap(x @ model.embedding.head.mT), rtol=1e-5, atol=1e-5)


def poly(z: float) -> float:
    return max(-1.0, min(1.0, z * (1 - z**2 / 3 + z**4 / 15)))


def test_a_sigmoid_is_a_tanh_moved():
    """Same probabilities as the tanh softcap of 30."""
    moved: Tensor = SigmoidSoftcap(height=60.0, shift=0.0, width=15.0)(LOGITS) - 30
    torch.testing.assert_close(moved, TanhSoftcap(cap=30.0)(LOGITS), rtol=1e-5, atol=1e-4)


def test_learned_bounds_hold_on_their_side():
    part = AsymLogit(cap=30.0).build()
    part.reset()
    torch.testing.assert_close(part(LOGITS), TanhSoftcap(cap=30.0)(LOGITS))
    with torch.no_grad():
        part.above.fill_(10.0)
        part.below.fill_(40.0)
    got = part(LOGITS)
    torch.testing.assert_close(got[LOGITS > 0], 10 * (LOGITS[LOGITS > 0] / 10).tanh())
    torch.testing.assert_close(got[LOGITS < 0], 40 * (LOGITS[LOGITS < 0] / 40).tanh())
    assert parameter_count(part) == 2
