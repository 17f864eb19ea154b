import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from paramgolf.stored import coarse_scales


def every_fp16():
    """All finite fp16 numbers of both signs."""
    return torch.arange(-(1 << 15), 1 << 15).to(torch.int16).view(torch.float16).nan_to_num(0.0, 0.0, 0.0)


@given(st.integers(0, 10))
def test_scales_keep_their_bits_and_sign_and_lie_near(bits):
    scale = every_fp16()
    coarse = coarse_scales(scale, bits)
    assert coarse.isfinite().all()
    assert torch.equal(coarse.signbit(), scale.signbit())
    assert not (coarse.abs().view(torch.int16).int() & ((1 << (10 - bits)) - 1)).any()
    assert torch.equal(coarse_scales(coarse, bits), coarse)
    normal = (scale.abs() >= 2.0**-14) & (scale.abs() < 2.0**15)
    error = (coarse.double() / scale.double() - 1)[normal].abs()
    assert error.max() <= 2.0 ** -(bits + 1)


def test_all_bits_change_nothing():
    assert torch.equal(coarse_scales(every_fp16(), 10), every_fp16())


@pytest.mark.parametrize("bits", [-1, 11])
def test_other_numbers_of_bits_are_our_mistake(bits):
    with pytest.raises(AssertionError):
        coarse_scales(torch.ones(1).half(), bits)
