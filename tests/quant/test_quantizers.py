import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from paramgolf.quant.plain_values import PlainValues
from paramgolf.quant.rounding import nearest_codes, row_quantile
from paramgolf.stored import Grid, Plain
from paramgolf.techniques.quant.int8_rows import Int8Rows


def grid_of(weight, **values):
    (term,) = Int8Rows(keep=0, **values)(weight, None).terms
    assert isinstance(term, Grid)
    return term


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 9), st.integers(1, 300), st.floats(0, 1))
def test_quantile_of_rows_is_numpys(seed, rows, columns, share):
    matrix = np.random.default_rng(seed).normal(size=(rows, columns)).astype(np.float32)
    ours = row_quantile(torch.from_numpy(matrix), share).numpy()
    np.testing.assert_allclose(ours, np.quantile(matrix.astype(np.float64), share, axis=1), rtol=1e-5, atol=1e-6)


def test_quantile_of_more_elements_than_some_torch_allow():
    vector = torch.zeros(1, 16_000_002)
    vector[0, 5], vector[0, 7_000_000] = 2.0, 1.0
    assert row_quantile(vector, 1.0) == 2.0
    assert row_quantile(vector, 0.9999999) == pytest.approx(0.4)


def test_int8_rows_by_hand():
    # Rows of 2: the clip lies 0.9999984 of the way from the smaller magnitude to the larger.
    weight = torch.tensor([[127.0, -254.0], [0.5, 0.25]])
    grid = grid_of(weight)
    assert grid.scale.tolist() == [2.0, float(np.float16(1 / 127))]
    # Row 0: 127 / 2 rounds to even, 64. Row 1 stays on the floor, whose fp16 form is a little larger than 1/127.
    step = float(np.float16(1 / 127))
    assert grid.codes.tolist() == [[64, -127], [round(0.5 / step), round(0.25 / step)]]


def test_outliers_are_clipped():
    weight = torch.full((1, 100_000), 3.0)
    weight[0, 7] = -3000.0
    grid = grid_of(weight, quantile=0.99)
    assert grid.codes[0, 7] == -127
    assert grid.dense()[0, 7] == pytest.approx(-3.0, rel=1e-3)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(-6, 6))
def test_error_is_at_most_half_a_step(seed, exponent):
    weight = torch.from_numpy(np.random.default_rng(seed).normal(size=(4, 50), scale=10**exponent)).float()
    grid = grid_of(weight, quantile=1.0)
    step = grid.scale.float().unsqueeze(1)
    # A scale that fp16 rounds down leaves the largest weight past 127 steps by at most 127 · 2^-11 of one.
    assert ((grid.dense() - weight).abs() <= 0.57 * step).all()


@pytest.mark.parametrize(("bits", "dtype", "limit"), [(2, torch.int8, 1), (8, torch.int8, 127), (9, torch.int16, 255)])
def test_nearest_codes_keep_to_their_bits(bits, dtype, limit):
    codes = nearest_codes(torch.tensor([[-1e9, -0.6, 0.5, 1.5, 1e9]]), torch.tensor([1.0]).half(), bits=bits)
    assert codes.dtype == dtype
    # Halves go to the even neighbour.
    assert codes.tolist() == [[-limit, -1, 0, min(2, limit), limit]]


def test_floor_is_of_the_scale_and_can_be_taken_away():
    weight = torch.full((1, 8), 0.001)
    assert grid_of(weight).codes.count_nonzero() == 0
    assert grid_of(weight, floor=0.0).dense()[0, 0] == pytest.approx(0.001, rel=1e-3)


def test_rows_of_zeros_without_floor():
    weight = torch.tensor([[0.0, 0.0], [1e-12, 1e-12], [1.0, -1.0]])
    assert grid_of(weight, floor=0.0).codes.tolist() == [[0, 0], [0, 0], [127, -127]]


def test_one_scale_for_a_vector_and_one_for_each_row_of_a_stack():
    assert grid_of(torch.randn(70)).scale.shape == (1,)
    assert grid_of(torch.randn(3, 4, 5)).scale.shape == (12,)


@pytest.mark.parametrize("shape", [(65_536,), (256, 256), (), (0,), (5, 0)])
def test_small_tensors_are_kept_as_halves(shape):
    weight = torch.randn(shape)
    stored = Int8Rows()(weight, None)
    assert isinstance(stored.terms[0], Plain)
    assert torch.equal(stored.dense(), weight.half().float())


def test_large_tensors_are_not():
    assert isinstance(Int8Rows()(torch.randn(257, 256), None).terms[0], Grid)


@pytest.mark.parametrize("bits", [16, 32])
def test_plain_values_do_not_follow_later_training(bits):
    weight = torch.tensor([1.0, 2.0])
    stored = PlainValues(bits=bits)(weight, None)
    weight.zero_()
    assert stored.dense().tolist() == [1.0, 2.0]


def test_plain_values_of_32_bits_are_exact():
    weight = torch.randn(3, 5)
    assert torch.equal(PlainValues(bits=32)(weight, None).dense(), weight)


def test_settings_that_mean_nothing_are_refused():
    with pytest.raises(ValueError, match="16 or 32"):
        PlainValues(bits=8)
    with pytest.raises(ValueError, match="quantile"):
        Int8Rows(quantile=1.5)
    with pytest.raises(ValueError, match="floor"):
        Int8Rows(floor=-1.0)
