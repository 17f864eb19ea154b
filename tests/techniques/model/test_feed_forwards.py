"""Activations, the gated feed-forward, widths by layer."""

import pytest
import torch
from token_batches import SMALL, random, random_part, small_model

from paramgolf.model.mlp import GELU
from paramgolf.techniques.model import GLU, LayerWidths, LeakyReLUSquared, ReLUSquared, SiLU


def test_leaky_relu_squared_and_its_gradient():
    p = torch.tensor([-3.0, -0.5, 0.0, 0.5, 3.0], requires_grad=True)
    a = LeakyReLUSquared(slope=0.5)(p)
    assert a.tolist() == [2.25, 0.0625, 0.0, 0.25, 9.0]
    (gradient,) = torch.autograd.grad(a.sum(), p)
    assert gradient.tolist() == [-1.5, -0.25, 0.0, 1.0, 6.0]
    x = random(100)
    assert torch.equal(LeakyReLUSquared(slope=0.0)(x), ReLUSquared()(x))


def test_silu():
    x = random(100)
    torch.testing.assert_close(SiLU()(x), x / (1 + (-x).exp()))


@pytest.mark.parametrize("activation", [SiLU(), GELU(), ReLUSquared()], ids=str)
def test_glu(activation: SiLU | GELU | ReLUSquared):
    part = random_part(GLU(mult=2.0).build(SMALL.dims, 0, SMALL.parameters._replace(activation=activation)))
    x = random(2, 3, 32)
    hidden = activation(x @ part.gate.weight.mT) * (x @ part.up.weight.mT)
    torch.testing.assert_close(part(x), hidden @ part.down.weight.mT)
    assert sum(parameter.numel() for parameter in part.parameters()) == 3 * 32 * 64


@pytest.mark.parametrize(
    ("mults", "widths"),
    [((4.0,), [128] * 4), ((1.0, 2.0), [32, 32, 64, 64]), ((1.0, 2.0, 3.0, 0.5), [32, 64, 96, 16])],
)
def test_widths_by_layer(mults: tuple[float, ...], widths: list[int]):
    model = small_model(mlp=LayerWidths(mults=mults))
    assert [block.mlp.up.weight.shape[0] for block in model.blocks] == widths
    assert [block.mlp.down.weight.shape[1] for block in model.blocks] == widths
