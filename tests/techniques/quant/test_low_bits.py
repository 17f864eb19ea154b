"""Ternary and binary quantizers: the published formulas, and the fixed point that makes an export lossless."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from paramgolf.batch import Batch
from paramgolf.lowbit import binary_codes, over_columns, ternary_codes
from paramgolf.model.config import GPTConfig
from paramgolf.model.gpt import GPT
from paramgolf.parts import Role, normal
from paramgolf.quant.plain_values import PlainValues
from paramgolf.quant.plan import QuantConfig, quantize, restore
from paramgolf.techniques.model import BinaryLinear, TernaryLinear
from paramgolf.techniques.quant import Binary, Ternary

SIZES = [(4, 256), (3, 200), (5, 7), (1, 1), (2, 129)]


def weight_of(shape: tuple[int, ...], seed: int = 0, size: float = 0.05) -> torch.Tensor:
    return size * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", SIZES, ids=str)
def test_ternary_is_the_published_formula(shape: tuple[int, int]):
    weight = weight_of(shape)
    dense = Ternary(group=128)(weight, None).dense()
    for row in range(shape[0]):
        for start in range(0, shape[1], 128):
            part = weight[row, start : start + 128]
            s = part.abs().mean()
            q = (part / s).round().clamp(-1, 1)
            expected = q * s / q.abs().mean()
            torch.testing.assert_close(dense[row, start : start + 128], expected, rtol=1e-3, atol=0)


@pytest.mark.parametrize("shape", SIZES, ids=str)
def test_binary_is_the_published_formula(shape: tuple[int, int]):
    weight = weight_of(shape)
    dense = Binary(group=128)(weight, None).dense()
    for row in range(shape[0]):
        for start in range(0, shape[1], 128):
            part = weight[row, start : start + 128]
            torch.testing.assert_close(
                dense[row, start : start + 128], part.sign() * part.abs().mean(), rtol=1e-3, atol=0
            )


@pytest.mark.parametrize(("make", "keep"), [(TernaryLinear, Ternary), (BinaryLinear, Binary)])
@given(rows=st.integers(1, 5), columns=st.integers(1, 70), power=st.integers(1, 6), seed=st.integers(0, 1000))
@settings(max_examples=40)
def test_what_is_exported_computes_what_was_trained(make, keep, rows: int, columns: int, power: int, seed: int):
    linear = make(group=2**power)(columns, rows, role=Role.MLP, init=normal(0.1))
    with torch.no_grad():
        linear.weight.copy_(weight_of((rows, columns), seed))
        trained = linear.used().clone()
        linear.weight.copy_(keep(group=2**power)(linear.weight, None).dense())
        torch.testing.assert_close(linear.used(), trained, rtol=1e-3, atol=0)


def test_a_group_of_zeros_stays_zero():
    weight = torch.zeros(2, 8)
    weight[0, :4] = torch.tensor([1.0, -3.0, 0.1, 0.0])
    for kept in (Ternary(group=4)(weight, None), Binary(group=4)(weight, None)):
        assert torch.equal(kept.dense()[1], torch.zeros(8))
        assert kept.dense().isfinite().all()
    assert ternary_codes(weight, 4).codes[0, :4].tolist() == [1, -1, 0, 0]
    assert binary_codes(weight, 4).codes[0, :4].tolist() == [1, -1, 1, 1]


def test_scales_of_groups_reach_their_columns():
    assert over_columns(torch.tensor([[1.0, 2.0]]), 2, 3).tolist() == [[1, 1, 2]]


def test_five_trits_to_a_byte():
    term = Ternary(group=128)(weight_of((512, 512)), None).terms[0]
    packed, scale = term.arrays()
    assert packed.nbytes == -(-512 * 512 // 5)
    assert scale.nbytes == 2 * 512 * 4


@pytest.mark.parametrize("kind", [Ternary, Binary])
def test_scales_of_few_bits_move_no_code_and_their_weights_by_little(kind):
    weight = weight_of((64, 512))
    fine, coarse = (kind(group=64, mantissa=bits)(weight, None).terms[0] for bits in (10, 3))
    assert torch.equal(coarse.codes, fine.codes)
    assert not (coarse.scale.view(torch.int16) & 127).any()
    off = (coarse.scale.float() / fine.scale.float() - 1).abs()
    assert 0 < off.max() <= 2**-4
    again = kind(group=64, mantissa=3)(coarse.dense(), None).dense()
    assert torch.equal(again, coarse.dense()), "what was exported is exported as it is"


@pytest.mark.parametrize("kind", [Ternary, Binary])
@pytest.mark.parametrize("mantissa", [-1, 11])
def test_scales_of_other_bits_are_refused(kind, mantissa: int):
    with pytest.raises(ValueError, match="mantissa"):
        kind(mantissa=mantissa)


@pytest.mark.parametrize("group", [0, 1, 3, 100, 65536])
@pytest.mark.parametrize("kind", [Ternary, Binary, TernaryLinear, BinaryLinear])
def test_groups_that_cannot_be_stored_are_refused(kind, group: int):
    with pytest.raises(ValueError, match="power of two"):
        kind(group=group)


@pytest.mark.parametrize(("linear", "quantizer"), [(TernaryLinear, Ternary), (BinaryLinear, Binary)])
def test_a_model_costs_after_export_what_it_cost_before(linear, quantizer):
    config = GPTConfig(vocab=32, dim=16, layers=2, heads=2, kv_heads=1, context=16, backend="plain")
    torch.manual_seed(0)
    model = GPT(replace(config, linear=linear(group=8)))
    model.reset()
    ids = torch.randint(2, 32, (2, 9))
    with torch.no_grad():
        model.embedding.weight.mul_(100)  # so that the costs are not all ln V
        before = model(Batch(ids[:, :-1], ids[:, 1:]))
        plan = QuantConfig(attention=quantizer(group=8), mlp=quantizer(group=8), embed=PlainValues(bits=32))
        restore(model, quantize(model, plan))
        after = model(Batch(ids[:, :-1], ids[:, 1:]))
    assert before.std() > 0.1
    torch.testing.assert_close(after, before, rtol=1e-3, atol=1e-3)
