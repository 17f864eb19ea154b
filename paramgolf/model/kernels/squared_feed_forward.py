"""Feed-forward with a squared (leaky) rectifier, the square taken while the first product is still in registers.

    a = f(x W1ᵀ),  y = a W2ᵀ,  f(h) = h² for h > 0, else (s·h)²

Only `a` is stored, in bf16 with its lowest bit telling the sign of h: f'(h) = ±2·√a (times s where h < 0), so that the
backward pass needs no h. Against separate passes that saves, of (N, hidden) tensors a layer, a write and a read forward
and a write and two reads backward. The price is one bit of the precision of `a`.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, library

from paramgolf.model.kernels import quack_runs
from paramgolf.model.kernels.eight_bits import NORM_STEP, norm_codes, weight_codes
from paramgolf.model.kernels.stream_product import stream_sum


def packed_square(h: Tensor, slope: float) -> Tensor:
    """The plain twin of the forward epilogue: fp32 -> bf16."""
    bits = F.leaky_relu(h.float(), slope).square().view(torch.int32)
    sign = (h < 0).int()
    kept = (((bits - sign * 65536 + 65536) >> 17) << 1) + sign
    return kept.to(torch.int16).view(torch.bfloat16)


def packed_derivative(a: Tensor, slope: float) -> Tensor:
    """The plain twin of the backward epilogue's factor: bf16 of `packed_square` -> fp32 f'(h)."""
    root = a.float().sqrt()
    return 2 * torch.where((a.view(torch.int16) & 1) == 1, -slope * root, root)


@library.custom_op("paramgolf::squared_up", mutates_args=())
def squared_up(x: Tensor, weight: Tensor, slope: float) -> Tensor:
    """x (N, D), weight (H, D) bf16 -> (N, H) `packed_square` of their product."""
    if quack_runs(x):
        from paramgolf.model.kernels.gpu.quack_products import QuackTiling, run_quack_square

        return run_quack_square(x, weight, slope, QuackTiling())
    from paramgolf.model.kernels.gpu.squared_products import Tiling, run_squared_product

    return run_squared_product(x, weight, None, slope, Tiling())


@library.custom_op("paramgolf::squared_up_eight_bits", mutates_args=())
def squared_up_eight_bits(x: Tensor, weight: Tensor, step: Tensor, slope: float) -> Tensor:
    """x (N, D), weight (H, D) e4m3, step a scalar fp32 -> (N, H) bf16 `packed_square` of their product times `step`."""
    if quack_runs(x):
        from paramgolf.model.kernels.gpu.quack_products import QuackTiling, run_quack_square

        return run_quack_square(x, weight, slope, QuackTiling(), step)
    from paramgolf.model.kernels.gpu.squared_products import Tiling, run_squared_product

    return run_squared_product(x, weight, None, slope, Tiling(depth=128), step)


@squared_up_eight_bits.register_fake
def squared_up_eight_bits_shape(x: Tensor, weight: Tensor, step: Tensor, slope: float) -> Tensor:
    """Shape of the forward pass."""
    return x.new_empty(x.shape[0], weight.shape[0], dtype=torch.bfloat16)


@squared_up.register_fake
def squared_up_shape(x: Tensor, weight: Tensor, slope: float) -> Tensor:
    """Shape of the forward pass."""
    return x.new_empty(x.shape[0], weight.shape[0])


@library.custom_op("paramgolf::squared_up_gradient", mutates_args=())
def squared_up_gradient(gradient: Tensor, weight: Tensor, a: Tensor, slope: float) -> Tensor:
    """gradient (N, D) of y, weight (D, H) of the second projection, a (N, H) -> (N, H), the gradient of h."""
    if quack_runs(a):
        from paramgolf.model.kernels.gpu.quack_products import QuackTiling, run_quack_square_derivative

        return run_quack_square_derivative(gradient, weight, a, slope, QuackTiling())
    from paramgolf.model.kernels.gpu.squared_products import Tiling, run_squared_product

    return run_squared_product(gradient, weight, a, slope, Tiling())


@squared_up_gradient.register_fake
def squared_up_gradient_shape(gradient: Tensor, weight: Tensor, a: Tensor, slope: float) -> Tensor:
    """Shape of the backward pass."""
    return torch.empty_like(a)


class SquaredFeedForward(torch.autograd.Function):
    """Both products with their gradients."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, up: Tensor, down: Tensor, slope: float, eight_bits: bool, stream: Tensor | None
    ) -> Tensor:
        """Keeps the inputs and the square."""
        if eight_bits:
            codes, step = weight_codes(up)
            a = squared_up_eight_bits(norm_codes(x), codes, step * NORM_STEP, slope)
        else:
            a = squared_up(x, up, slope)
        ctx.save_for_backward(x, up, down, a)
        ctx.slope = slope
        ctx.adds = stream is not None
        return a @ down.T if stream is None else stream_sum(stream, a, down)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of x, both weights and the stream."""
        x, up, down, a = ctx.saved_tensors
        gradient = gradients[0].contiguous()
        of_h = squared_up_gradient(gradient, down, a, ctx.slope)
        # Test-time training may learn adapters alone.
        of_up = of_h.T @ x if ctx.needs_input_grad[1] else None
        of_down = gradient.T @ a if ctx.needs_input_grad[2] else None
        return of_h @ up, of_up, of_down, None, None, gradient if ctx.adds else None


def squared_feed_forward(
    x: Tensor, up: Tensor, down: Tensor, slope: float, eight_bits: bool = False, stream: Tensor | None = None
) -> Tensor:
    """x (..., D), up (H, D), down (D, H), all bf16 on a GPU -> (..., D), added to `stream` where one is given.

    With `eight_bits` the first product is one of e4m3 numbers; `x` then comes from a norm.
    """
    onto = None if stream is None else stream.flatten(0, -2)
    return SquaredFeedForward.apply(x.flatten(0, -2), up, down, slope, eight_bits, onto).view(x.shape)
