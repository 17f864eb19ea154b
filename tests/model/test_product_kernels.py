"""Products with something done to their sums against their plain twins, and the twins against the definition."""

import pytest
import torch
import torch.nn.functional as F
from kernel_inputs import error, on_gpu

from paramgolf.model.kernels import quack_runs
from paramgolf.model.kernels.squared_feed_forward import (
    packed_derivative,
    packed_square,
    squared_feed_forward,
    squared_up,
    squared_up_gradient,
)
from paramgolf.model.kernels.stream_product import stream_product
from paramgolf.model.mlp import GELU, FeedForwardModule
from paramgolf.model.slots import Activation, DenseLinear, KaimingInit, Parameters
from paramgolf.techniques.model import LeakyReLUSquared


@pytest.mark.parametrize("slope", [0.0, 0.5, 0.75])
def test_packed_square_rounds_without_bias_and_its_derivative_knows_the_sign(slope: float) -> None:
    h = torch.randn(200_000, generator=torch.Generator().manual_seed(1)).requires_grad_()
    exact = F.leaky_relu(h, slope).square()
    exact.sum().backward()
    assert h.grad is not None
    packed = packed_square(h.detach(), slope)
    positive = exact > 1e-30
    relative = ((packed.float() - exact)[positive] / exact[positive]).detach()
    assert relative.abs().max() <= 2**-7
    assert abs(relative.mean()) < 1e-4
    assert error(packed_derivative(packed, slope), h.grad) < 3e-3
    assert ((packed_derivative(packed, slope)[positive] > 0) == (h.detach()[positive] > 0)).all()


@pytest.mark.parametrize("activation", [GELU(), LeakyReLUSquared()])
def test_matrices_take_on_the_gain_of_what_they_write(activation: Activation) -> None:
    made_from = Parameters(DenseLinear(), KaimingInit(), KaimingInit(), activation, fused=True)
    torch.manual_seed(6)
    half = FeedForwardModule(16, 32, made_from)
    half.reset()
    x, gain = torch.randn(2, 5, 16).requires_grad_(), torch.randn(16).requires_grad_()
    inputs = [x, gain, *half.parameters()]
    wanted, found = gain * half(x), half(x, gain)
    assert torch.allclose(found, wanted, atol=1e-6)
    weight = torch.randn_like(wanted)
    for mine, plain in zip(
        torch.autograd.grad(found, inputs, weight), torch.autograd.grad(wanted, inputs, weight), strict=True
    ):
        assert torch.allclose(mine, plain, atol=1e-5)


@pytest.mark.gpu
@pytest.mark.parametrize("library", ["triton", "quack", "quack, wide"])
@pytest.mark.parametrize(("rows", "width", "hidden"), [(512, 512, 2048), (200, 64, 192), (1000, 512, 1536)])
@pytest.mark.parametrize("slope", [0.0, 0.5])
def test_squared_products_equal_their_twins(library: str, rows: int, width: int, hidden: int, slope: float) -> None:
    x, up, down = on_gpu(rows, width), on_gpu(hidden, width, scale=width**-0.5), on_gpu(width, hidden)
    gradient = on_gpu(rows, width)
    if library != "triton":
        if not quack_runs(x):
            pytest.skip("needs quack-kernels 0.6 and a Hopper")
        from paramgolf.model.kernels.gpu.quack_products import (
            QuackTiling,
            run_quack_square,
            run_quack_square_derivative,
        )

        how = QuackTiling(wide=library == "quack, wide")
        a = run_quack_square(x, up, slope, how)
        of_h = run_quack_square_derivative(gradient, down, a, slope, how)
    else:
        from paramgolf.model.kernels.gpu.squared_products import Tiling, run_squared_product

        a = run_squared_product(x, up, None, slope, Tiling())
        of_h = run_squared_product(gradient, down, a, slope, Tiling())
    exact = x.float() @ up.float().T
    assert error(a, packed_square(exact, slope)) < 1e-3
    signs = (a.view(torch.int16) & 1).bool()
    assert (signs == (exact < 0))[exact.abs() > 1e-3].all()
    assert error(of_h, (gradient.float() @ down.float()) * packed_derivative(a, slope)) < 4e-3
    if library != "triton":
        assert torch.equal(a, squared_up(x, up, slope))
        assert torch.equal(of_h, squared_up_gradient(gradient, down, a, slope))


@pytest.mark.gpu
@pytest.mark.parametrize(("rows", "inside", "width"), [(1536, 2048, 512), (1000, 512, 512), (200, 192, 64)])
@pytest.mark.parametrize("compiled", [False, True])
def test_a_product_added_to_the_stream_has_the_gradients_of_the_plain_one(
    rows: int, inside: int, width: int, compiled: bool
) -> None:
    given = (on_gpu(1, rows, width), on_gpu(1, rows, inside), on_gpu(width, inside, scale=inside**-0.5))
    inputs = [tensor.requires_grad_() for tensor in given]
    wide = [tensor.detach().float().requires_grad_() for tensor in inputs]
    product = torch.compile(stream_product, fullgraph=True) if compiled else stream_product
    found, wanted = product(*inputs), wide[0] + wide[1] @ wide[2].T
    assert error(found, wanted) < 3e-3
    weight = on_gpu(1, rows, width).flip(1)
    for mine, exact in zip(
        torch.autograd.grad(found, inputs, weight), torch.autograd.grad(wanted, wide, weight.float()), strict=True
    ):
        assert error(mine, exact) < 4e-3


@pytest.mark.gpu
@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("adds", [False, True])
def test_fused_feed_forward_has_the_value_and_gradients_of_the_plain_one(adds: bool, compiled: bool) -> None:
    x, up, down = on_gpu(1, 768, 512), on_gpu(2048, 512, scale=0.04), on_gpu(512, 2048, scale=0.02)
    inputs = [tensor.requires_grad_() for tensor in (x, up, down, *([x.flip(1).detach()] if adds else []))]
    fused = torch.compile(squared_feed_forward, fullgraph=True) if compiled else squared_feed_forward
    y = fused(*inputs[:3], 0.5, False, inputs[3] if adds else None)
    wide = [tensor.detach().float().requires_grad_() for tensor in inputs]
    wanted = F.leaky_relu(wide[0] @ wide[1].T, 0.5).square() @ wide[2].T
    wanted = wanted + wide[3] if adds else wanted
    assert error(y, wanted) < 1e-2
    for found, exact in zip(
        torch.autograd.grad(y.float().square().sum(), inputs),
        torch.autograd.grad(wanted.square().sum(), wide),
        strict=True,
    ):
        assert error(found, exact) < 2e-2
