"""Low-rank and span terms: what they mean, what is written, and what is refused."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from paramgolf.artifact.container import Expected, pack, unpack
from paramgolf.columnspan import ColumnSpan
from paramgolf.lowrank import WHOLE, Factor, LowRank
from paramgolf.parts import Role
from paramgolf.quant.correction import best_factors, even_codes, uneven_codes, weighed_loss, window_sums
from paramgolf.stored import Grid, Stored


def random_factor(rows: int, columns: int, group: int, seed: int) -> Factor:
    random = np.random.default_rng(seed)
    codes = torch.from_numpy(random.integers(-8, 8, (rows, columns)).astype(np.int8))
    groups = rows * columns // group if group else 1
    return Factor(codes, torch.from_numpy(random.uniform(0, 2, groups).astype(np.float16)), group)


def random_low_rank(rows: int, columns: int, rank: int, seed: int) -> LowRank:
    return LowRank(
        left=random_factor(rows, rank, [WHOLE, rank][seed % 2], seed),
        right=random_factor(rank, columns, [WHOLE, 1, columns][seed % 3], seed + 1),
    )


low_rank_terms = st.builds(
    random_low_rank, st.integers(1, 9), st.integers(1, 20), st.integers(1, 5), st.integers(0, 2**31)
)


def came_back(stored: Stored) -> Stored:
    expected = {"weight": Expected(stored.shape, Role.MLP)}
    return unpack(pack({"weight": stored}, expected, coder=None, digest="0" * 12), expected)["weight"]


@given(low_rank_terms)
def test_a_product_is_summed_in_single_precision_from_the_first_to_the_last(term: LowRank):
    left, right = (factor.codes.numpy().astype(np.float32) for factor in (term.left, term.right))
    left = left * scales_of(term.left)
    right = right * scales_of(term.right)
    total = np.zeros((len(left), right.shape[1]), np.float32)
    for place in range(len(right)):
        total = total + np.multiply.outer(left[:, place], right[place])
    assert term.dense().numpy().tobytes() == total.tobytes()


def scales_of(factor: Factor) -> np.ndarray:
    numbers = np.arange(factor.codes.numel()) // (factor.group or factor.codes.numel())
    return factor.scale.numpy().astype(np.float32)[numbers].reshape(factor.codes.shape)


@given(low_rank_terms)
def test_products_come_back_from_an_artifact(term: LowRank):
    grid = Grid(
        codes=torch.ones(term.dense().shape, dtype=torch.int8), scale=torch.ones(len(term.left.codes)).half(), bits=6
    )
    stored = Stored(tuple(grid.codes.shape), (grid, term))
    back = came_back(stored)
    assert isinstance(back.terms[1], LowRank)
    assert back.dense().numpy().tobytes() == stored.dense().numpy().tobytes()


@given(st.integers(1, 5), st.integers(1, 30), st.integers(1, 30), st.integers(0, 2**31))
def test_spans_come_back_and_are_zero_elsewhere(rows: int, width: int, beside: int, seed: int):
    random = np.random.default_rng(seed)
    start = int(random.integers(0, beside + 1))
    term = ColumnSpan(
        codes=torch.from_numpy(random.integers(-127, 128, (rows, width)).astype(np.int8)),
        scale=torch.from_numpy(random.uniform(0, 2, rows).astype(np.float16)),
        start=start,
        columns=width + beside,
    )
    dense = term.dense()
    assert torch.equal(dense[:, start : start + width], term.codes.float() * term.scale.float().unsqueeze(1))
    dense[:, start : start + width] = 0.0
    assert not dense.any()
    back = came_back(Stored((rows, width + beside), (term,)))
    assert back.dense().numpy().tobytes() == term.dense().numpy().tobytes()


@pytest.mark.parametrize("kind", [LowRank, ColumnSpan])
@given(settings=st.binary(max_size=14))
def test_foreign_settings_are_refused_or_take_what_they_say(kind: type, settings: bytes):
    """Never a size that the weight does not imply."""
    pieces, refusal = (), ""
    try:
        pieces = kind.layout(settings, 6, 10)
    except ValueError as error:
        refusal = str(error)
    assert all(piece.size <= 2 * 255 * 10 for piece in pieces)
    assert bool(pieces) != ("settings" in refusal)


def test_spans_beyond_the_weight_are_refused():
    good = ColumnSpan(codes=torch.ones(2, 3, dtype=torch.int8), scale=torch.ones(2).half(), start=4, columns=7).settings
    assert ColumnSpan.layout(good, 2, 7)[0].shape == (2, 3)
    for columns in (6, 8):
        with pytest.raises(ValueError, match="settings say columns 4 to 7 of 7"):
            ColumnSpan.layout(good, 2, columns)
    for start, width in ((4, 4), (0, 8), (7, 0), (2**32 - 1, 1)):
        settings = b"".join(number.to_bytes(4, "little") for number in (start, width, 7))
        with pytest.raises(ValueError, match=r"settings say columns .* of 7, the weight has 7"):
            ColumnSpan.layout(settings, 2, 7)


def spectrum_of(matrix: Tensor) -> np.ndarray:
    return np.linalg.svd(matrix.double().numpy(), compute_uv=False)


@pytest.mark.parametrize("shape", [(9, 14), (14, 9)])
def test_factors_are_the_best_of_their_rank(shape: tuple[int, int]):
    lost = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    left, right = best_factors(lost, None, 3)
    assert weighed_loss(lost - left @ right, None) == pytest.approx((spectrum_of(lost)[3:] ** 2).sum(), rel=1e-4)
    torch.testing.assert_close(right.norm(dim=1), torch.ones(3))


@pytest.mark.parametrize("shape", [(9, 14), (14, 9)])
def test_weighed_factors_are_the_best_for_the_outputs(shape: tuple[int, int]):
    generator = torch.Generator().manual_seed(0)
    lost = torch.randn(shape, generator=generator)
    inputs = torch.randn(50, shape[1], generator=generator) * torch.logspace(-1, 1, shape[1])
    hessian = inputs.mT @ inputs
    damped = hessian + 0.01 * hessian.diagonal().mean() * torch.eye(shape[1])
    left, right = best_factors(lost, hessian, 3)
    seen = lost.double() @ torch.linalg.cholesky(damped.double())
    assert weighed_loss(lost - left @ right, damped) == pytest.approx((spectrum_of(seen)[3:] ** 2).sum(), rel=1e-3)
    plain = best_factors(lost, None, 3)
    assert weighed_loss(lost - left @ right, damped) < weighed_loss(lost - plain.left @ plain.right, damped)


def test_uneven_codes_reach_from_the_lowest_to_one_below_the_highest():
    factor = uneven_codes(torch.tensor([[-3.0, 1.0, 3.0, 0.2], [0.0, 0.0, 0.0, 0.0]]), 2, 4)
    assert factor.scale.tolist() == [2.0, 0.0]
    assert factor.codes.tolist() == [[-2, 0, 1, 0], [0, 0, 0, 0]]
    whole = uneven_codes(torch.tensor([[-7.5, 7.5], [1.0, 0.0]]), 4, WHOLE)
    assert whole.scale.tolist() == [1.0]
    assert whole.codes.tolist() == [[-8, 7], [1, 0]]


def test_even_codes_have_a_step_a_row():
    factor = even_codes(torch.tensor([[7.0, -3.5], [0.7, 0.1]]), 4)
    assert factor.codes.tolist() == [[7, -4], [7, 1]]
    assert factor.scale.tolist() == [1.0, float(np.float16(0.1))]
    assert factor.group == 2


@given(st.lists(st.integers(-9, 9), min_size=1, max_size=30), st.data())
def test_sums_of_neighbours(values: list[int], data: st.DataObject):
    width = data.draw(st.integers(1, len(values)))
    sums = window_sums(torch.tensor(values, dtype=torch.float32), width)
    assert sums.tolist() == [sum(values[place : place + width]) for place in range(len(values) - width + 1)]
