from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor

from paramgolf.quant.gptq import gptq_codes
from paramgolf.quant.rate_distortion import Choices, PreparedMatrix, slope_of_bits, surroundings
from paramgolf.quant.rate_table import MOST_CODE, code_bits, mean_bits
from paramgolf.quant.search import ColumnFacts, RowFacts, StateMachine, choose_columns
from paramgolf.techniques.quant import RateDistortion
from paramgolf.trellis import Trellis, next_states, odd_grid, state_entries

ALL = Choices(states=8, rows="curvature", columns=True, choose_rate=True, recenter=True)


def scene(rows: int = 96, columns: int = 64) -> tuple[Tensor, Tensor, Tensor]:
    """Weights, the Hessian of correlated inputs of many sizes, and rows of many curvatures."""
    generator = torch.Generator().manual_seed(3)
    sizes = torch.exp(0.7 * torch.randn(columns, generator=generator))
    mixing = torch.eye(columns) + 0.4 * torch.randn(columns, columns, generator=generator) / columns**0.5
    inputs = (torch.randn(2000, columns, generator=generator) * sizes) @ mixing
    curvature = torch.exp(torch.randn(rows, generator=generator))
    return 0.05 * torch.randn(rows, columns, generator=generator), inputs.mT @ inputs / 2000, curvature


def cost(weight: Tensor, dense: Tensor, hessian: Tensor, rows: Tensor) -> float:
    lost = (dense - weight).double()
    return float((rows.double().unsqueeze(1) * (lost @ hessian.double()) * lost).sum())


def entropy(codes: Tensor, context: Tensor) -> float:
    """Bits a code under one table for each context."""
    bits = 0.0
    for value in context.unique():
        _, counts = codes[context == value].unique(return_counts=True)
        share = counts.double() / counts.sum()
        bits -= float((counts * share.log2()).sum())
    return bits / codes.numel()


def coded_bits(term: object, weight: Tensor) -> float:
    """Bits a weight when the coder knows about how large codes are in each row and column, and the grid."""
    codes = term.codes
    square = codes.double().square() + 0.05
    size = (square.mean(1, keepdim=True).log2() + square.mean(0).log2()).round()
    odd = odd_grid(codes, term.states) if isinstance(term, Trellis) else torch.zeros_like(codes)
    return entropy(codes, 2 * size + odd.int())


def figure(choices: Choices, bits: float = 3.4) -> float:
    """The error that is left, brought to one number of bits by 6 dB a bit."""
    weight, hessian, rows = scene()
    matrix = PreparedMatrix(weight, hessian, rows, choices)
    term = matrix.at(slope_of_bits([matrix], bits)).term
    return cost(weight, term.dense(), hessian, rows) * 4 ** coded_bits(term, weight)


def test_every_idea_leaves_less_error_at_the_same_bits():
    """On correlated inputs and uneven rows each step of the ladder must pay; shares are below what was measured."""
    plain = figure(Choices(rows="deviation"))
    by_column = figure(Choices(rows="deviation", columns=True))
    by_both = figure(Choices(rows="curvature", columns=True))
    four, eight, many = (figure(Choices(rows="curvature", columns=True, states=states)) for states in (4, 8, 64))
    assert figure(Choices(rows="deviation", feedback=False)) > 1.2 * plain
    assert by_column < 0.94 * plain
    assert by_both < 0.8 * by_column
    assert four < 0.86 * by_both
    assert eight < 0.86 * by_both
    assert many < 0.98 * eight
    assert figure(ALL, 1.5) < 0.95 * figure(replace(ALL, choose_rate=False, recenter=False), 1.5)


@pytest.mark.parametrize("states", [1, 8])
def test_alone_it_spends_the_bits_it_was_given(states):
    weight, hessian, rows = scene(300, 200)
    for bits in (2.0, 3.5, 5.0):
        matrix = PreparedMatrix(weight, hessian, rows, Choices(states=states, rows="curvature", columns=True))
        coded = matrix.at(slope_of_bits([matrix], bits))
        assert coded.bits / weight.numel() == pytest.approx(bits, abs=0.35)
        assert coded_bits(coded.term, weight) == pytest.approx(coded.bits / weight.numel(), abs=0.2)


def test_without_trellis_and_rate_it_is_gptq():
    """The same codes as the textbook's error feedback for the steps that were chosen, bar ties in rounding."""
    weight, hessian, _ = scene()
    matrix = PreparedMatrix(weight, hessian, None, Choices(rows="deviation"))
    term = matrix.at(slope_of_bits([matrix], 3.5)).term
    scale = term.dense().abs().amax(1) / term.codes.abs().amax(1)
    theirs = gptq_codes(weight, hessian, scale, limit=127, damping=0.01, act_order=True, block=16)
    assert (theirs == term.codes).float().mean() > 0.999
    other = cost(weight, theirs * scale.unsqueeze(1), hessian, torch.ones(96))
    assert cost(weight, term.dense(), hessian, torch.ones(96)) == pytest.approx(other, rel=1e-3)


@pytest.mark.parametrize("states", [4, 8])
@pytest.mark.parametrize("rate", [0.0, 0.3])
def test_the_search_finds_the_cheapest_path(states, rate):
    """Of all codes for a column of five."""
    values = np.array([[0.3, -1.2, 2.6, 0.9, -3.1]], np.float32)
    bits = (rate * code_bits(trellis=True)).float().numpy()
    one, ratio = np.ones(5, np.float32), np.full(5, 28.0, np.float32)
    columns = ColumnFacts(one[:1], one[:1], 0 * one[:1])
    machine = StateMachine(*state_entries(states))
    codes, spent = choose_columns(
        values.copy(), np.eye(1, dtype=np.float32), RowFacts(one, one, ratio), columns, bits, machine
    )
    after, table = next_states(states), bits[28]

    def price(path: tuple[int, ...]) -> tuple[float, float]:
        state, total, paid = 0, 0.0, 0.0
        for value, code in zip(values[0], path, strict=True):
            point = 2 * code - np.sign(code) * (state % 2)
            paid += table[state % 2, abs(code)]
            total += (value - point) ** 2
            state = after[state, code % 2]
        return total + paid, paid

    best = min(product(range(-3, 4), repeat=5), key=lambda path: price(path)[0])
    assert price(tuple(codes[0].tolist()))[0] == pytest.approx(price(best)[0], rel=1e-5)
    # An expected bit more or less: which grid a zero is of is not told apart.
    assert spent == pytest.approx(price(best)[1], abs=0.5)


def test_the_trellis_is_near_the_bound_on_gaussian_weights():
    """Above the rate-distortion bound: plain rounding 0.26 bits, 8 states 0.11 at most (issue's simulated check)."""
    weight = torch.randn(512, 128, generator=torch.Generator().manual_seed(0))
    gaps = {}
    for states in (1, 8):
        matrix = PreparedMatrix(weight, None, None, Choices(states=states, choose_rate=states > 1))
        term = matrix.at(slope_of_bits([matrix], 3.45)).term
        odd = odd_grid(term.codes, states) if states > 1 else torch.zeros_like(term.codes)
        error = float((term.dense() - weight).double().square().mean())
        gaps[states] = entropy(term.codes, odd.int()) + 0.5 * np.log2(error / float(weight.double().square().mean()))
    assert gaps[1] == pytest.approx(0.255, abs=0.02)
    assert gaps[8] < 0.11


@pytest.mark.parametrize("trellis", [False, True])
def test_the_table_of_bits_is_of_chances_that_sum_to_one(trellis):
    table = code_bits(trellis=trellis)
    chance = torch.exp2(-table)
    whole = 2 * chance.sum(-1) - chance[..., 0]
    # Up to deviations of 16 steps, from where on the largest code cuts tails off.
    assert torch.allclose(whole[:40], torch.ones_like(whole[:40]), atol=1e-6)
    assert (mean_bits(table).diff()[8:48] > 0).all()


@pytest.mark.parametrize("shape", [(), (0,), (0, 3), (5, 0), (1,), (7,), (1, 9), (9, 1), (2, 3, 4)])
@pytest.mark.parametrize("fill", [None, 0.0, 3.0])
def test_any_shape_and_constants(shape, fill):
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(1)) if fill is None else torch.full(shape, fill)
    for states in (1, 8):
        stored = RateDistortion(states=states, rows="curvature", columns=True, choose_rate=True, recenter=True)(
            weight, None
        )
        assert stored.shape == shape
        assert stored.dense().isfinite().all()
        assert torch.linalg.vector_norm(stored.dense() - weight) <= 0.35 * torch.linalg.vector_norm(weight) + 1e-30


def test_codes_never_leave_a_byte():
    """A weight far out widens the step of its row, or of all where rows have none of their own."""
    weight, hessian, rows = scene()
    weight[5, 7] = 40.0
    for choices in (replace(ALL, rows=kind) for kind in ("none", "deviation", "curvature")):
        term = PreparedMatrix(weight, hessian, rows, choices).at(1e-12).term
        assert int(term.codes.abs().max()) <= MOST_CODE
        assert float(term.dense()[5, 7]) == pytest.approx(40.0, rel=0.02)


def test_rows_without_curvature_and_inputs_never_seen_are_kept_all_the_same():
    weight, hessian, rows = scene()
    rows[3] = 0.0
    hessian[:, 4], hessian[4] = 0.0, 0.0
    term = PreparedMatrix(weight, hessian, rows, ALL).at(1e-6).term
    assert term.dense().isfinite().all()
    nothing = PreparedMatrix(weight, torch.zeros_like(hessian), torch.zeros_like(rows), ALL).at(1e-6).term
    assert nothing.dense().isfinite().all()


def test_twice_is_the_same_and_nothing_given_is_changed():
    given = scene()
    before = [part.clone() for part in given]
    one, two = (PreparedMatrix(*given, ALL).at(1e-5).term for _ in range(2))
    assert one.settings == two.settings
    assert all(torch.equal(a, b) for a, b in zip(one.arrays(), two.arrays(), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(given, before, strict=True))


def test_the_factor_is_the_inverse_hessians():
    _, hessian, _ = scene()
    known = surroundings(torch.zeros(2, 64), hessian, None, 0.01)
    damped = hessian.double() + 0.01 * hessian.double().diagonal().mean() * torch.eye(64)
    order = known.order
    assert (hessian.diagonal()[order].diff() <= 0).all()
    factor = known.factor.double()
    assert torch.allclose(factor.mT @ factor, damped[order][:, order].inverse(), rtol=1e-3, atol=1e-5)
    assert torch.equal(factor, factor.triu())


@pytest.mark.parametrize(("field", "value"), [("bits", 0.0), ("bits", 9.0), ("damping", -1.0)])
def test_settings_that_mean_nothing_are_refused(field, value):
    with pytest.raises(ValueError, match=str(value)):
        RateDistortion(**{field: value})
