import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from paramgolf.optim.orthogonalize import CLASSIC, Quintic, orthogonalize

FIVE = (CLASSIC,) * 5
SHAPES = [(32, 32), (16, 48), (48, 16), (96, 24)]


def reference(matrix: Tensor, quintics: tuple[Quintic, ...]) -> Tensor:
    """The same polynomials applied to the singular values themselves, in double precision."""
    u, s, vh = torch.linalg.svd(matrix.double() / (matrix.double().norm() + 1e-7), full_matrices=False)
    for a, b, c in quintics:
        s = a * s + b * s**3 + c * s**5
    return u @ torch.diag(s) @ vh


@pytest.mark.parametrize("shape", SHAPES)
def test_equals_the_polynomial_of_the_singular_values(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        orthogonalize(matrix, FIVE, torch.float32).double(), reference(matrix, FIVE), atol=2e-4, rtol=0
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", SHAPES)
def test_singular_values_come_near_one(shape: tuple[int, int], dtype: torch.dtype) -> None:
    matrices = torch.randn(3, *shape, generator=torch.Generator().manual_seed(1))
    values = torch.linalg.svdvals(orthogonalize(matrices, FIVE, dtype).float())
    # Square random matrices have a few singular values too small for five iterations to lift.
    smallest = values[..., : min(shape) * 3 // 4].min()
    assert 0.65 < smallest <= values.max() < 1.25


def test_singular_vectors_stay() -> None:
    matrix = torch.randn(20, 40, generator=torch.Generator().manual_seed(2))
    u, _, vh = torch.linalg.svd(matrix, full_matrices=False)
    core = u.mT @ orthogonalize(matrix, FIVE, torch.float32) @ vh.mT
    assert (core - torch.diag(core.diag())).abs().max() < 1e-3


@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 12), st.integers(1, 12))
@settings(max_examples=25, deadline=None)
def test_leading_dimensions_are_a_batch(first: int, second: int, rows: int, cols: int) -> None:
    matrices = torch.randn(first, second, rows, cols, generator=torch.Generator().manual_seed(3))
    together = orthogonalize(matrices, FIVE, torch.float32)
    assert together.shape == matrices.shape
    for i in range(first):
        for j in range(second):
            alone = orthogonalize(matrices[i, j], FIVE, torch.float32)
            torch.testing.assert_close(together[i, j], alone, atol=1e-3, rtol=0)


def test_scale_does_not_matter_and_zero_stays_zero() -> None:
    matrix = torch.randn(8, 24, generator=torch.Generator().manual_seed(4))
    small, large = (orthogonalize(matrix * scale, FIVE, torch.float32) for scale in (1e-3, 1e6))
    torch.testing.assert_close(small, large, atol=1e-3, rtol=0)
    assert orthogonalize(torch.zeros(8, 24), FIVE).abs().max() == 0


def test_each_iteration_takes_its_own_polynomial() -> None:
    quintics = ((2.0, -1.5, 0.5), (1.5, -0.5, 0.0), CLASSIC)
    matrix = torch.randn(12, 18, generator=torch.Generator().manual_seed(5))
    torch.testing.assert_close(
        orthogonalize(matrix, quintics, torch.float32).double(), reference(matrix, quintics), atol=2e-4, rtol=0
    )


def test_products_run_in_the_dtype_asked_for() -> None:
    matrix = torch.randn(16, 16, generator=torch.Generator().manual_seed(6))
    half, full = orthogonalize(matrix, FIVE), orthogonalize(matrix, FIVE, torch.float32)
    assert half.dtype == torch.bfloat16
    assert full.dtype == torch.float32
    assert 0 < (half.float() - full).norm() / full.norm() < 0.05
