"""Training on rounded weights: the grid, the gradient, and a switch that the compiled graph obeys."""

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from paramgolf.batch import Batch
from paramgolf.model.config import GPTConfig
from paramgolf.model.gpt import GPT
from paramgolf.parts import Linear, Role, normal
from paramgolf.techniques.model import QAT, BinaryLinear, NoiseQAT, TernaryLinear

SMALL = GPTConfig(vocab=32, dim=16, layers=2, heads=2, kv_heads=1, context=16, backend="plain")
IDS = torch.randint(2, 32, (2, 9), generator=torch.Generator().manual_seed(0))
BATCH = Batch(IDS[:, :-1], IDS[:, 1:])
X = torch.randn(5, 24, generator=torch.Generator().manual_seed(1))


def linear_of(maker: Any) -> Linear:
    torch.manual_seed(0)
    linear: Linear = maker(24, 6, role=Role.MLP, init=normal(0.1))
    linear.reset()
    return linear


def model_of(maker: Any) -> GPT:
    torch.manual_seed(0)
    model = GPT(replace(SMALL, linear=maker))
    model.reset()
    model.at(0.0)
    return model


@pytest.mark.parametrize("bits", [5, 6, 7, 8])
@pytest.mark.parametrize("sigmas", [0.0, 1.5])
def test_rounded_weights_lie_on_the_grid_of_the_export(bits: Any, sigmas: float):
    linear = linear_of(QAT(bits=bits, sigmas=sigmas))
    limit = 2 ** (bits - 1) - 1
    for row, used in zip(linear.weight.detach(), linear.used().detach(), strict=True):
        bound = row.abs().max() if not sigmas else sigmas * row.std()
        step = (bound / limit).half().float()
        assert torch.equal(used, (row / step).round().clamp(-limit, limit) * step)
        assert len(used.unique()) > 4


@pytest.mark.parametrize("maker", [QAT(), TernaryLinear(group=8), BinaryLinear(group=8)])
def test_gradients_go_straight_through(maker: Any):
    linear = linear_of(maker)
    assert not torch.equal(linear.used(), linear.weight)
    F.linear(X, linear.used()).square().sum().backward()
    expected = (2 * F.linear(X, linear.used().detach())).mT @ X
    torch.testing.assert_close(linear.weight.grad, expected)


@pytest.mark.parametrize("maker", [QAT(), TernaryLinear(group=8), NoiseQAT(bits=4)])
def test_the_forward_pass_multiplies_by_what_is_used(maker: Any):
    linear = linear_of(maker)
    with torch.no_grad():
        assert torch.equal(linear(X), F.linear(X, linear.used()))


def test_the_late_switch_changes_the_compiled_graph():
    """The published late QAT never acted: its compiled graph had the flag folded in."""
    torch._dynamo.reset()
    model = model_of(QAT(bits=5, start=0.85))
    plain = model_of(QAT(bits=5, start=1.0))
    compiled = torch.compile(model.loss, backend="eager", fullgraph=True)
    before = compiled(BATCH)
    assert torch.equal(before, plain.loss(BATCH))
    model.at(0.84)
    assert torch.equal(compiled(BATCH), before)
    model.at(0.85)
    after = compiled(BATCH)
    assert not torch.equal(after, before)
    assert torch.equal(after, model.loss(BATCH))
    model.at(0.0)
    assert torch.equal(compiled(BATCH), before)
    assert model.config.switches == (0.85,)


def test_rounding_reaches_every_projection_of_the_blocks():
    model = model_of(QAT())
    for block in model.blocks:
        projections = [module for module in block.modules() if isinstance(module, Linear)]
        assert len(projections) == 6
        assert all(len(linear.used()[0].unique()) < len(linear.weight[0]) + 1 for linear in projections)
        assert all(not torch.equal(linear.used(), linear.weight) for linear in projections)


def test_noise_is_uniform_within_half_a_step_of_the_export():
    linear = linear_of(NoiseQAT(bits=8))
    linear.at(0.5)
    step = linear.weight.detach().abs().amax(1, keepdim=True) / 127
    noise = torch.stack([(linear.used().detach() - linear.weight.detach()) / step for _ in range(200)])
    assert noise.abs().max() <= 0.501
    assert abs(float(noise.mean())) < 0.01
    assert abs(float(noise.var()) - 1 / 12) < 0.003
    assert not torch.equal(noise[0], noise[1])


def test_only_passes_that_train_are_noisy():
    torch._dynamo.reset()
    model, plain = model_of(NoiseQAT(bits=4, start=0.2)), model_of(QAT(start=1.0))
    compiled = torch.compile(model.loss, backend="eager", fullgraph=True)
    clean = plain.loss(BATCH)
    assert torch.equal(compiled(BATCH), clean), "not yet"
    model.at(0.2)
    assert not torch.equal(compiled(BATCH), clean)
    with torch.no_grad():
        assert torch.equal(compiled(BATCH), clean), "validation is not training"
    model.at(1.0)
    assert torch.equal(compiled(BATCH), clean), "training is over"


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        (QAT, {"bits": 4}),
        (QAT, {"start": 2.0}),
        (QAT, {"sigmas": -1.0}),
        (NoiseQAT, {"bits": 9}),
        (NoiseQAT, {"start": 1.0}),
    ],
)
def test_settings_that_cannot_be_are_refused(kind: Any, wrong: dict[str, Any]):
    with pytest.raises(ValueError):
        kind(**wrong)
