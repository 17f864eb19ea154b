"""The second half of a layer as products with nothing between them: norm, squared feed-forward, sum with the stream.

    R = factor / sqrt(mean x² + ε),   a = f(R · (x W1ᵀ)),   y = x + a W2ᵀ

A norm without gains is a number for each token, which passes through a product: nothing of the norm is written, the
first product multiplies its sums by R. Backward, with g the gradient of y and h = R · x W1ᵀ:

    da = g W2,   dh = da · f'(h),   e = R dh
    dW1 = eᵀ x,   dW2 = gᵀ a,   dx = g + e W1 − x · (R / factor)² / D · Σ_j h_j dh_j

The sum over hidden channels is 2 Σ_j a_j da_j, since f is of degree two; the epilogue that makes e adds it up. The last
product's epilogue reads g and x and writes dx. Of (N, D) tensors that leaves out, a layer, one written forward, and
backward a pass that reads three and writes one. Through QuACK only.
Source: deferred norms as in `quack.epilogue.library`. Plain twin: `plain_normed_feed_forward`.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, library

from paramgolf.model.kernels.stream_product import stream_sum


def plain_normed_feed_forward(x: Tensor, up: Tensor, down: Tensor, slope: float, factor: float) -> Tensor:
    """The plain twin: x (..., D), up (H, D), down (D, H) -> like x."""
    normed = factor * F.rms_norm(x, x.shape[-1:])
    return x + F.leaky_relu(normed @ up.T, slope).square() @ down.T


@library.custom_op("paramgolf::rated_square", mutates_args=())
def rated_square(x: Tensor, weight: Tensor, rate: Tensor, slope: float) -> Tensor:
    """x (N, D), weight (H, D) bf16, rate (N) fp32 -> (N, H) `packed_square` of their product times the rate."""
    from paramgolf.model.kernels.gpu.quack_products import QuackTiling, run_rated_square

    return run_rated_square(x, weight, rate, slope, QuackTiling())


@rated_square.register_fake
def rated_square_shape(x: Tensor, weight: Tensor, rate: Tensor, slope: float) -> Tensor:
    """Shape of the forward pass."""
    return x.new_empty(x.shape[0], weight.shape[0])


@library.custom_op("paramgolf::rated_square_gradient", mutates_args=())
def rated_square_gradient(
    gradient: Tensor, weight: Tensor, a: Tensor, rate: Tensor, slope: float
) -> tuple[Tensor, Tensor]:
    """gradient (N, D) of y, weight (D, H), a (N, H), rate (N) -> e (N, H), and Σ a da (N, parts) fp32 in parts."""
    from paramgolf.model.kernels.gpu.quack_products import QuackTiling, run_rated_derivative

    return run_rated_derivative(gradient, weight, a, rate, slope, QuackTiling())


@rated_square_gradient.register_fake
def rated_square_gradient_shapes(
    gradient: Tensor, weight: Tensor, a: Tensor, rate: Tensor, slope: float
) -> tuple[Tensor, Tensor]:
    """Shapes of the backward pass."""
    return torch.empty_like(a), rate.new_empty(a.shape[0], square_parts(weight))


def square_parts(weight: Tensor) -> int:
    """In how many parts the sums over hidden channels come: one for each tile of 128."""
    return -(-weight.shape[1] // 128)


@library.custom_op("paramgolf::gradient_past_norm", mutates_args=())
def gradient_past_norm(e: Tensor, weight: Tensor, given: Tensor, x: Tensor, share: Tensor) -> Tensor:
    """e (N, H), weight (H, D), given and x (N, D) bf16, share (N) fp32 -> given + e W − share · x."""
    from paramgolf.model.kernels.gpu.quack_products import QuackTiling, run_gradient_past_norm

    # Two tensors beside the product: 64 columns of both at a time do not fit into the registers.
    return run_gradient_past_norm(e, weight, given, x, share, QuackTiling(wide=False))


@gradient_past_norm.register_fake
def gradient_past_norm_shape(e: Tensor, weight: Tensor, given: Tensor, x: Tensor, share: Tensor) -> Tensor:
    """Shape of the backward pass."""
    return torch.empty_like(x)


class NormedFeedForward(torch.autograd.Function):
    """The half with its gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, up: Tensor, down: Tensor, slope: float, factor: float) -> Tensor:
        """Keeps the stream, the square and a number for each token."""
        scale = torch.rsqrt(x.float().square().mean(-1) + torch.finfo(torch.float32).eps)
        a = rated_square(x, up, factor * scale, slope)
        ctx.save_for_backward(x, up, down, a, scale)
        ctx.form = (slope, factor)
        return stream_sum(x, a, down)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of the stream and both weights."""
        x, up, down, a, scale = ctx.saved_tensors
        slope, factor = ctx.form
        given = gradients[0].contiguous()
        e, parts = rated_square_gradient(given, down, a, factor * scale, slope)
        share = (2 / x.shape[-1]) * parts.sum(-1) * scale.square()
        # Test-time training may learn adapters alone.
        of_up = e.T @ x if ctx.needs_input_grad[1] else None
        of_down = given.T @ a if ctx.needs_input_grad[2] else None
        return gradient_past_norm(e, up, given, x, share), of_up, of_down, None, None


def normed_feed_forward(x: Tensor, up: Tensor, down: Tensor, slope: float, factor: float) -> Tensor:
    """x (..., D), up (H, D), down (D, H), all bf16 on a GPU where `sums_run` -> like x, the feed-forward added."""
    return NormedFeedForward.apply(x.flatten(0, -2), up, down, slope, factor).view(x.shape)
