import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from paramgolf.quant.scales import best_grid, row_deviation, row_errors, stored_scale


@given(st.floats(1e-4, 3e4), st.integers(0, 10))
def test_a_step_is_rounded_to_the_nearest_of_its_mantissa(value: float, mantissa: int):
    kept = float(stored_scale(torch.tensor([value]), mantissa)[0])
    exponent = np.floor(np.log2(value))
    spacing = 2.0 ** (max(exponent, -14) - mantissa)
    # Twice: to fp16, then to the mantissa.
    assert abs(kept - value) <= spacing / 2 + 2.0 ** (exponent - 11)
    assert float(np.float16(kept)) == kept
    assert kept % (2.0 ** (max(np.floor(np.log2(kept)), -14) - mantissa)) == 0


def test_ten_bits_are_all_of_fp16():
    values = torch.rand(1000, generator=torch.Generator().manual_seed(0)) * 3
    assert torch.equal(stored_scale(values), values.half())
    few = stored_scale(values + 1, 2)
    assert set(few.tolist()) <= {1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 3.5, 4.0}


def test_the_deviation_is_about_zero():
    assert row_deviation(torch.tensor([[3.0, -3.0], [2.0, 2.0], [0.0, 0.0]])).tolist() == [3.0, 2.0, 0.0]
    assert row_deviation(torch.zeros(2, 0)).tolist() == [0.0, 0.0]


def test_the_best_grid_is_chosen_for_all_rows_or_for_each():
    matrix = torch.tensor([[1.0, 2.0], [10.0, 21.0]])
    scales = torch.tensor([[1.0, 1.0], [3.0, 7.0], [1.0, 1.0]]).half()
    codes = [(matrix / scale.float().unsqueeze(1)).round().clamp(-3, 3) for scale in scales]
    whole = best_grid(matrix, scales, codes, by_row=False)
    assert whole.scale.tolist() == [3.0, 7.0], "the second loses 2.. in one row and nearly nothing in the other"
    each = best_grid(matrix, scales, codes, by_row=True)
    assert each.scale.tolist() == [1.0, 7.0]
    assert each.codes.tolist() == [[1.0, 2.0], [1.0, 3.0]]
    assert row_errors(matrix, each).tolist() == [0.0, 9.0]
    alone = best_grid(matrix, scales[:1], codes[:1], by_row=False)
    assert alone.scale.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("by_row", [True, False])
def test_of_equals_the_first_is_taken(by_row: bool):
    matrix = torch.zeros(2, 3)
    scales = torch.tensor([[1.0, 1.0], [2.0, 2.0]]).half()
    assert best_grid(matrix, scales, [matrix, matrix], by_row=by_row).scale.tolist() == [1.0, 1.0]
