"""Error feedback against the textbook: one column, one row of the inverse, all in double precision."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from paramgolf.errors import GolfError
from paramgolf.quant.gptq import fed_back, gptq_codes, inverse_factor


def correlated(columns: int, seed: int = 0, *, rows: int = 400) -> Tensor:
    """Σ x xᵀ of inputs that go together, some much stronger than others."""
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(columns, columns, generator=generator) * torch.logspace(-1, 1, columns)
    inputs = torch.randn(rows, columns, generator=generator) @ mix
    return inputs.mT @ inputs


def textbook(
    weight: Tensor, hessian: Tensor, scale: Tensor, limit: int, order: list[int], damping: float
) -> np.ndarray:
    """Optimal brain quantization column by column, the inverse updated after each (Frantar et al. 2022)."""
    matrix, square = weight.double().numpy().copy(), hessian.double().numpy()
    square = square + damping * np.diag(square).mean() * np.eye(len(square))
    codes = np.zeros_like(matrix)
    left = list(order)
    inverse = np.linalg.inv(square[np.ix_(left, left)])
    while left:
        column, step = left[0], scale.double().numpy()
        codes[:, column] = np.clip(np.round(matrix[:, column] / step), -limit, limit)
        lost = (matrix[:, column] - codes[:, column] * step) / inverse[0, 0]
        matrix[:, left] -= np.outer(lost, inverse[0])
        inverse = (inverse - np.outer(inverse[:, 0], inverse[0]) / inverse[0, 0])[1:, 1:]
        left = left[1:]
    return codes


def output_loss(weight: Tensor, kept: Tensor, hessian: Tensor) -> float:
    lost = (weight - kept).double()
    return float((lost @ hessian.double() * lost).sum())


@pytest.mark.parametrize("act_order", [True, False])
@pytest.mark.parametrize("block", [1, 5, 128])
def test_codes_are_the_textbooks(act_order: bool, block: int):
    generator = torch.Generator().manual_seed(3)
    weight, hessian = torch.randn(7, 23, generator=generator), correlated(23)
    scale = (weight.abs().amax(1) / 15).half()
    order = hessian.diagonal().argsort(descending=True, stable=True).tolist() if act_order else list(range(23))
    expected = textbook(weight, hessian, scale, 15, order, 0.01)
    codes = gptq_codes(weight, hessian, scale, limit=15, act_order=act_order, block=block)
    assert np.array_equal(codes.numpy(), expected)


@given(st.integers(0, 2**32 - 1), st.integers(2, 9), st.integers(20, 40))
def test_the_outputs_lose_less_than_by_rounding_to_nearest(seed: int, rows: int, columns: int):
    weight = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))
    hessian = correlated(columns, seed + 1)
    scale = (weight.abs().amax(1) / 7).half()
    step = scale.float().unsqueeze(1)
    nearest = (weight / step).round().clamp(-7, 7) * step
    codes = gptq_codes(weight, hessian, scale, limit=7)
    assert output_loss(weight, codes * step, hessian) < output_loss(weight, nearest, hessian)
    assert codes.abs().max() <= 7
    assert torch.equal(codes, codes.round())


def test_the_factor_is_that_of_the_inverse():
    hessian = correlated(12)
    order, upper = inverse_factor(hessian, damping=0.01)
    damped = hessian.double() + 0.01 * hessian.diagonal().double().mean() * torch.eye(12, dtype=torch.float64)
    assert order.tolist() == hessian.diagonal().argsort(descending=True).tolist()
    assert torch.equal(upper, upper.triu())
    torch.testing.assert_close(
        upper.double().mT @ upper.double(), torch.linalg.inv(damped[order][:, order]), rtol=1e-4, atol=1e-9
    )


def test_the_spread_is_that_of_an_input_given_the_later_ones():
    hessian = correlated(6)
    factor = inverse_factor(hessian, damping=0.0)
    order = factor.order.tolist()
    for place, column in enumerate(order):
        later, exact = order[place + 1 :], hessian.double()
        given = exact[column, later] @ torch.linalg.solve(exact[later][:, later], exact[later, column]) if later else 0
        assert float(factor.spread[column]) == pytest.approx(float(exact[column, column] - given) ** 0.5, rel=1e-3)


def test_inputs_that_do_not_go_together_leave_nothing_to_feed_back():
    weight = torch.randn(5, 9, generator=torch.Generator().manual_seed(0))
    scale = (weight.abs().amax(1) / 31).half()
    nearest = (weight / scale.float().unsqueeze(1)).round().clamp(-31, 31)
    diagonal = torch.diag(torch.arange(1.0, 10.0))
    assert torch.equal(gptq_codes(weight, diagonal, scale, limit=31), nearest)
    # The same through the feedback itself, which a vanishing correlation does not let skip.
    nearly = diagonal + 1e-30
    assert torch.equal(gptq_codes(weight, nearly, scale, limit=31), nearest)


def test_inputs_that_never_came_lose_their_weights():
    hessian = correlated(8)
    hessian[2], hessian[:, 2] = 0.0, 0.0
    weight = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
    codes = gptq_codes(weight, hessian, torch.full((3,), 0.1).half(), limit=127)
    assert not codes[:, 2].any()
    assert codes[:, [0, 1, 3, 4, 5, 6, 7]].any(0).all()
    assert not gptq_codes(weight, torch.zeros(8, 8), torch.full((3,), 0.1).half(), limit=127).any()


def test_steps_and_limits_may_differ_by_column():
    weight, hessian = torch.randn(4, 10, generator=torch.Generator().manual_seed(1)), correlated(10)
    steps = torch.full((4, 10), 0.1)
    limits = torch.full((10,), 7)
    steps[:, 3], limits[3] = 0.01, 127
    codes = gptq_codes(weight, hessian, steps, limit=limits)
    assert codes[:, 3].abs().max() > 7
    assert codes[:, [0, 1, 2, 4, 5, 6, 7, 8, 9]].abs().max() <= 7
    same = gptq_codes(weight, hessian, torch.full((4, 10), 0.125), limit=7)
    assert torch.equal(same, gptq_codes(weight, hessian, torch.full((4,), 0.125), limit=7))


def test_a_row_of_zeros_and_a_step_of_zero_give_zeros():
    weight, hessian = torch.randn(3, 6, generator=torch.Generator().manual_seed(1)), correlated(6)
    weight[0] = 0.0
    codes = gptq_codes(weight, hessian, torch.tensor([0.0, 0.0, 0.1]).half(), limit=31)
    assert not codes[:2].any()
    assert codes[2].any()


@pytest.mark.parametrize(("rows", "columns"), [(0, 5), (5, 0), (1, 1), (1, 9), (200, 1)])
def test_any_shape(rows: int, columns: int):
    weight = torch.randn(rows, columns, generator=torch.Generator().manual_seed(1))
    codes = gptq_codes(weight, correlated(columns) if columns else torch.zeros(0, 0), torch.ones(rows).half(), limit=3)
    assert codes.shape == (rows, columns)


def test_inputs_all_alike_are_damped_until_there_is_a_factor():
    hessian = torch.ones(30, 30) * 1e6
    weight = torch.randn(2, 30, generator=torch.Generator().manual_seed(1))
    codes = gptq_codes(weight, hessian, torch.full((2,), 0.1).half(), limit=127, damping=0.0)
    step = 0.1
    nearest = (weight / step).round() * step
    assert output_loss(weight, codes * step, hessian) < output_loss(weight, nearest, hessian)


def test_a_hessian_that_is_not_finite_is_refused():
    with pytest.raises(GolfError, match="not finite"):
        inverse_factor(torch.full((3, 3), torch.inf))


def test_what_a_column_keeps_is_up_to_the_caller():
    """As a trellis would: here every second row is kept exactly, and loses nothing to the others."""
    weight, hessian = torch.randn(6, 12, generator=torch.Generator().manual_seed(1)), correlated(12)
    seen: list[int] = []

    def half_exact(values: Tensor, column: int) -> Tensor:
        seen.append(column)
        return torch.where(torch.arange(6) % 2 == 0, values, values.round())

    kept = fed_back(weight, inverse_factor(hessian), half_exact, block=5)
    assert torch.equal(kept[::2], weight[::2])
    assert torch.equal(kept[1::2], kept[1::2].round())
    assert sorted(seen) == list(range(12))
    assert seen == inverse_factor(hessian).order.tolist()
