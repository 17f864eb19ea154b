"""What reworks the outputs of heads: XSA, gates, differences of maps."""

import pytest
import torch
from token_batches import SMALL, fresh, packed_documents, pass_of, plain_rows, random, random_part
from torch import Tensor

from paramgolf.batch import Batch
from paramgolf.model.attention import attend
from paramgolf.model.slots import Tap
from paramgolf.techniques.model import (
    XSA,
    AttentionOutGate,
    BiasedGate,
    DifferentialAttention,
    GatedAttention,
    SparseGate,
)

Y, TAP = random(2, 5, 4, 8), Tap(random(2, 5, 32, seed=1), random(2, 5, 2, 8, seed=2))


def own_part(row: int, place: int, head: int) -> Tensor:
    """Of Y along the value of the head's group, by the unit vector."""
    unit = TAP.v_BTKE[row, place, head // 2]
    unit = unit / unit.norm()
    return (Y[row, place, head] @ unit) * unit


@pytest.mark.parametrize("gated", [False, True])
def test_xsa_takes_the_own_value_away(gated: bool):
    part = XSA(gated=gated).build(SMALL.dims, 0)
    part = random_part(part) if gated else part
    got = part(Y, TAP)
    for row, place, head in torch.cartesian_prod(*map(torch.arange, (2, 5, 4))).tolist():
        amount = part.alpha[head].tanh() if gated else 1.0
        expected = Y[row, place, head] - amount * own_part(row, place, head)
        torch.testing.assert_close(got[row, place, head], expected, rtol=1e-4, atol=1e-5)


def test_xsa_leaves_nothing_along_the_value_and_bears_zero_values():
    got = XSA().build(SMALL.dims, 0)(Y, TAP).unflatten(2, (2, 2))
    assert (got * TAP.v_BTKE.unsqueeze(3)).sum(-1).abs().max() < 1e-5
    assert torch.equal(XSA().build(SMALL.dims, 0)(Y, TAP._replace(v_BTKE=torch.zeros(2, 5, 2, 8))), Y)


def test_xsa_in_the_last_layers_or_all_and_gated_starts_as_nothing():
    assert [XSA(last=1).build(SMALL.dims, layer) is not None for layer in range(4)] == [False, False, False, True]
    assert all(XSA().build(SMALL.dims, layer) is not None for layer in range(4))
    assert torch.equal(fresh(XSA(gated=True).build(SMALL.dims, 0))(Y, TAP), Y)


@pytest.mark.parametrize(
    ("filler", "count", "start"),
    [
        (GatedAttention(), 4 * 32, 0.5),
        (SparseGate(scale=0.5), 4 * 12, 0.5),
        (AttentionOutGate(), 4 * 12, 1.0),
        (BiasedGate(), 4 * 33, torch.sigmoid(torch.tensor(4.0)).item()),
    ],
    ids=lambda filler: type(filler).__name__,
)
def test_gates(filler: GatedAttention | SparseGate | AttentionOutGate | BiasedGate, count: int, start: float):
    part = fresh(filler.build(SMALL.dims, 0))
    assert sum(parameter.numel() for parameter in part.parameters()) == count
    torch.testing.assert_close(part(Y, TAP), start * Y, rtol=0.05, atol=0)
    random_part(part)
    got = part(Y, TAP)
    width = part.weight.shape[1]
    for row, place, head in torch.cartesian_prod(*map(torch.arange, (2, 5, 4))).tolist():
        logit = part.weight[head] @ TAP.x_BTD[row, place, :width]
        gate = {
            GatedAttention: lambda z: z.sigmoid(),
            SparseGate: lambda z: (0.5 * z).sigmoid(),
            AttentionOutGate: lambda z: 2 * z.sigmoid(),
            BiasedGate: lambda z, head=head: (z + part.bias[head]).sigmoid(),
        }[type(filler)](logit)
        torch.testing.assert_close(got[row, place, head], gate * Y[row, place, head], rtol=1e-4, atol=1e-5)


def one_map(q: Tensor, k: Tensor, v: Tensor, batch: Batch) -> Tensor:
    """(T, E) of one head: causal softmax inside documents."""
    segment = batch.segments()[0]
    out = torch.zeros_like(v)
    for place in range(len(q)):
        seen = [other for other in range(place + 1) if segment[other] == segment[place]]
        weights = (k[seen] @ q[place] / q.shape[-1] ** 0.5).softmax(0)
        out[place] = weights @ v[seen]
    return out


@pytest.mark.parametrize("batch", [packed_documents(), plain_rows(1, 9)], ids=["packed", "rows"])
@pytest.mark.parametrize("learns", [False, True])
@pytest.mark.parametrize("kv_heads", [2, 4])
def test_differential_attention(batch: Batch, learns: bool, kv_heads: int):
    q, k, v = (random(1, batch.ids.shape[1], n, 8, seed=n) for n in (4, kv_heads, kv_heads + 10))
    v = v[:, :, :kv_heads]
    group = 4 // kv_heads
    how = pass_of(batch).plan
    for form in ("even_odd", "full"):
        core = DifferentialAttention(form=form, amount=0.7, learns=learns).build(SMALL.dims, 0)
        core = random_part(core) if learns else core
        got = core(q, k, v, how)[0]
        for pair in range(2):
            amount = core.amount[pair] if learns else 0.7
            first, second = 2 * pair, 2 * pair + 1
            if form == "even_odd":
                y1, y2 = (one_map(q[0, :, h], k[0, :, h // group], v[0, :, h // group], batch) for h in (first, second))
                expected = [y1 - amount * y2, y1 + amount * y2]
            else:
                even = 2 * (pair // group)
                expected = [
                    one_map(q[0, :, first], k[0, :, even], v[0, :, value], batch)
                    - amount * one_map(q[0, :, second], k[0, :, even + 1], v[0, :, value], batch)
                    for value in (even, even + 1)
                ]
            for head, wanted in zip((first, second), expected, strict=True):
                torch.testing.assert_close(got[:, head], wanted, rtol=1e-4, atol=1e-5)


def test_without_a_difference_the_even_heads_are_plain_attention():
    batch = packed_documents()
    q, k, v = (random(1, batch.ids.shape[1], n, 8, seed=n) for n in (4, 2, 2))
    how = pass_of(batch).plan
    core = DifferentialAttention(amount=0.0).build(SMALL.dims, 0)
    assert torch.equal(core(q, k, v, how)[:, :, ::2], attend(q, k, v, how)[:, :, ::2])
