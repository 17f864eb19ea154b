import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from paramgolf.stored import Grid, Plain, Stored, rows_and_columns
from paramgolf.terms import TERMS


@pytest.mark.parametrize(
    ("shape", "matrix"),
    [((), (1, 1)), ((7,), (1, 7)), ((0,), (1, 0)), ((2, 3), (2, 3)), ((0, 3), (0, 3)), ((4, 2, 3), (8, 3))],
)
def test_every_shape_is_a_matrix(shape, matrix):
    assert rows_and_columns(shape) == matrix


@given(st.integers(2, 16), st.integers(0, 2**32 - 1))
def test_grid_is_code_times_scale_in_single_precision(bits, seed):
    random = np.random.default_rng(seed)
    limit = 2 ** (bits - 1) - 1
    codes = random.integers(-limit, limit + 1, (3, 5))
    scale = (2.0 ** random.uniform(-24, 15.9, 3)).astype(np.float16)
    grid = Grid(
        codes=torch.from_numpy(codes.astype(np.int8 if bits <= 8 else np.int16)),
        scale=torch.from_numpy(scale),
        bits=bits,
    )
    expected = codes.astype(np.float32) * scale.astype(np.float32)[:, None]
    assert grid.dense().numpy().tobytes() == expected.tobytes()


def test_terms_are_added_from_the_left():
    # 1 is lost beside 1e8 in fp32, so that the order of additions shows.
    parts = [Plain(values=torch.tensor([[value]])) for value in (1.0, 1e8, -1e8)]
    assert Stored((), tuple(parts)).dense() == 0.0
    assert Stored((), (parts[1], parts[2], parts[0])).dense() == 1.0


def test_no_terms_are_zeros_of_the_shape():
    assert torch.equal(Stored((2, 3), ()).dense(), torch.zeros(2, 3))


def test_dense_has_the_shape_of_the_weight():
    assert Stored((2, 1, 3), (Plain(values=torch.ones(2, 3)),)).dense().shape == (2, 1, 3)


def test_foreign_types_are_refused():
    with pytest.raises(AssertionError, match="float64"):
        Plain(values=torch.ones(1, 1, dtype=torch.float64))
    with pytest.raises(AssertionError, match="int16"):
        Grid(codes=torch.ones(1, 1, dtype=torch.int16), scale=torch.ones(1).half(), bits=8)
    with pytest.raises(AssertionError, match="on the CPU"):
        Plain(values=torch.ones(1, 1, device="meta"))


@pytest.mark.parametrize("identity", sorted(TERMS))
@pytest.mark.parametrize("settings", [b"", b"\x00", b"\xff", b"\x10\x10"])
def test_foreign_settings_are_refused(identity, settings):
    with pytest.raises(ValueError, match="settings"):
        TERMS[identity].layout(settings, 2, 3)


def test_layout_tells_the_arrays_of_a_term():
    grid = Grid(codes=torch.ones(2, 3, dtype=torch.int8), scale=torch.ones(2).half(), bits=6)
    plain = Plain(values=torch.ones(2, 3).half())
    for term in (grid, plain):
        pieces = type(term).layout(term.settings, 2, 3)
        assert [piece.shape for piece in pieces] == [tuple(array.shape) for array in term.arrays()]
        assert [piece.size for piece in pieces] == [array.nbytes for array in term.arrays()]
        assert torch.equal(type(term).rebuild(term.settings, term.arrays()).dense(), term.dense())
