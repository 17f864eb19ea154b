"""Matrices that layers share: polynomials of depth, and random ones with learned corrections."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from paramgolf.model.config import GPTConfig
from paramgolf.model.gpt import GPT, parameter_count
from paramgolf.parts import Linear, Role, declared
from paramgolf.techniques.model import QAT, LayerWidths, LegendreDepth, RandomAdapters, ZeroOut
from paramgolf.techniques.model.legendre_depth import legendre
from paramgolf.techniques.model.random_adapters import random_matrix

SMALL = GPTConfig(vocab=32, dim=16, layers=7, heads=2, kv_heads=1, context=16, backend="plain")


def model_of(config: GPTConfig) -> GPT:
    torch.manual_seed(0)
    model = GPT(config)
    model.reset()
    return model


@pytest.mark.parametrize("t", [-1.0, -0.3, 0.0, 0.5, 1.0])
@pytest.mark.parametrize("degree", [0, 1, 2, 5])
def test_polynomials_are_legendre_s(t: float, degree: int):
    expected = [np.polynomial.legendre.Legendre.basis(k)(t) for k in range(degree + 1)]
    assert legendre(t, degree) == pytest.approx(expected)


def test_matrices_are_values_of_one_polynomial():
    model = model_of(replace(SMALL, on_blocks=(LegendreDepth(attention_degree=3, mlp_degree=1),)))
    coefficients = model.blocks[1].attention.q.coefficients  # type: ignore[union-attr]
    matrices = [getattr(coefficients, f"order_{k}").detach() for k in range(4)]
    for layer, t in zip(range(1, 6), np.linspace(-1, 1, 5)):
        bases = [np.polynomial.legendre.Legendre.basis(k)(t) for k in range(4)]
        expected = sum(float(base) * matrix for base, matrix in zip(bases, matrices))
        torch.testing.assert_close(model.blocks[layer].attention.q.used(), expected)  # type: ignore[union-attr]
    spreads = [matrix.abs().max() for matrix in matrices]
    for k, spread in enumerate(spreads):
        assert 0.5**k / 5 < spread <= 0.5**k / 4, "order k starts at 0.5^k of the declared start"


def test_layers_are_counted_once():
    model = model_of(replace(SMALL, on_blocks=(LegendreDepth(attention_degree=2, mlp_degree=1, groups=2),)))
    attention = 16 * 16 * 2 + 16 * 8 * 2
    mlp = 2 * 16 * 64
    # two groups in place of five layers, and two ends of their own
    assert parameter_count(model) == 32 * 16 + 2 * (attention + mlp) + 2 * (3 * attention + 2 * mlp)
    roles = {role for name, _, role in declared(model) if "order_" in name}
    assert roles == {Role.ATTENTION, Role.MLP}


def test_without_ends_every_layer_is_tied():
    model = model_of(replace(SMALL, on_blocks=(LegendreDepth(ends=False),)))
    assert not [name for name, _, _ in declared(model) if name.endswith(".weight") and "blocks" in name]


def test_zero_projections_stay_zero_in_every_order():
    model = model_of(replace(SMALL, init_out=ZeroOut(), on_blocks=(LegendreDepth(),)))
    assert not model.blocks[2].attention.out.used().any()  # type: ignore[union-attr]


def test_random_adapters_are_a_fixed_matrix_and_a_product():
    model = model_of(replace(SMALL, on_blocks=(RandomAdapters(rank=3, seed=10),)))
    up, down = model.blocks[0].mlp.up, model.blocks[0].mlp.down  # type: ignore[union-attr]
    assert torch.equal(up.used(), random_matrix(64, 16, 10)), "at the start the correction is zero"
    assert torch.equal(down.used(), random_matrix(16, 64, 11))
    assert torch.equal(model.blocks[1].mlp.up.fixed, random_matrix(64, 16, 12))  # type: ignore[union-attr]
    with torch.no_grad():
        up.right.normal_()
    torch.testing.assert_close(up.used(), random_matrix(64, 16, 10) + up.left @ up.right)
    whole = parameter_count(model_of(SMALL))
    assert whole - parameter_count(model) == 7 * 2 * (64 * 16 - 3 * (64 + 16))
    assert type(model.blocks[0].attention.q) is Linear
    every = model_of(replace(SMALL, on_blocks=(RandomAdapters(rank=3, attention=True),)))
    assert not [name for name, _, _ in declared(every) if name.endswith(".weight") and "blocks" in name]


def test_fixed_matrices_are_not_saved_and_are_the_same_in_every_model():
    config = replace(SMALL, on_blocks=(RandomAdapters(rank=3),))
    torch.manual_seed(1)
    first = GPT(config)
    torch.manual_seed(2)
    second = GPT(config)
    assert not [name for name in first.state_dict() if "fixed" in name]
    for one, other in zip(first.buffers(), second.buffers(), strict=True):
        assert torch.equal(one, other)


def test_random_numbers_are_nearly_gaussian_and_pinned():
    matrix = random_matrix(512, 256, 0) * 256**0.5
    assert abs(float(matrix.mean())) < 0.01
    assert abs(float(matrix.var()) - 1) < 0.02
    assert abs(float((matrix**4).mean()) - 2.7) < 0.05, "the fourth moment of a sum of four uniform numbers"
    pinned = [0.06763511151075363, 0.14745397865772247]
    assert random_matrix(2, 64, 7).flatten()[:2].tolist() == pinned, "artifacts with adapters would read back as noise"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"on_blocks": (LegendreDepth(),), "linear": QAT()}, "QAT would make"),
        ({"on_blocks": (RandomAdapters(),), "linear": QAT()}, "QAT would make"),
        ({"on_blocks": (RandomAdapters(), LegendreDepth())}, "same projections"),
        ({"on_blocks": (LegendreDepth(groups=6),)}, "do not fill 6 groups"),
        ({"on_blocks": (LegendreDepth(),), "mlp": LayerWidths(mults=(1.0,) * 6 + (2.0,))}, None),
        ({"on_blocks": (LegendreDepth(),), "mlp": LayerWidths(mults=(1.0,) * 3 + (2.0,) * 4)}, "2 shapes"),
    ],
)
def test_what_cannot_be_shared_is_refused_when_configured(changes, reason: str | None):
    if reason is None:
        assert model_of(replace(SMALL, **changes)).blocks[6].mlp.up.weight.shape == (32, 16)  # type: ignore[union-attr]
        return
    with pytest.raises(ValueError, match=reason):
        replace(SMALL, **changes)
