"""The last product of a half, its output added to the stream while it is still in registers.

    y = stream + a Wᵀ

Written by itself, the product is read again, with the stream, by whoever wants the sum first: of (N, D) tensors that is
one written and two read more than here, where the product reads the stream. The gradient of the stream is the one that
the product's gradients read: nothing is made for it. Without QuACK it would cost what it saves: cuBLAS, as torch calls
it, copies the stream first. Plain twin: `stream + a @ W.T`.
"""

from typing import Any

import torch
from torch import Tensor, library

from paramgolf.model.kernels import quack_runs


@library.custom_op("paramgolf::stream_sum", mutates_args=())
def stream_sum(stream: Tensor, a: Tensor, weight: Tensor) -> Tensor:
    """stream (N, D), a (N, K), weight (D, K), all bf16 -> (N, D)."""
    if quack_runs(a):
        from paramgolf.model.kernels.gpu.quack_products import QuackTiling, run_quack_sum

        # Only a short product waits for its epilogue: of depth 512 0.098 ms wide and 0.107 narrow, of 2048 0.294 and
        # 0.290 (98,304 by 512 on an H200, benchmarks/product_time.py).
        return run_quack_sum(stream, a, weight, QuackTiling(wide=a.shape[1] <= 1024))
    return torch.addmm(stream, a, weight.T)


@stream_sum.register_fake
def stream_sum_shape(stream: Tensor, a: Tensor, weight: Tensor) -> Tensor:
    """Shape of the forward pass."""
    return torch.empty_like(stream)


class StreamProduct(torch.autograd.Function):
    """The operator with its gradients."""

    @staticmethod
    def forward(ctx: Any, stream: Tensor, a: Tensor, weight: Tensor) -> Tensor:
        """Keeps the factors."""
        ctx.save_for_backward(a, weight)
        return stream_sum(stream, a, weight)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of the stream and both factors."""
        a, weight = ctx.saved_tensors
        gradient = gradients[0].contiguous()
        of_weight = gradient.T @ a if ctx.needs_input_grad[2] else None
        return gradient, gradient @ weight, of_weight


def stream_product(stream: Tensor, a: Tensor, weight: Tensor) -> Tensor:
    """stream (..., D), a (..., K), weight (D, K), all bf16 on a GPU -> (..., D)."""
    return StreamProduct.apply(stream.flatten(0, -2), a.flatten(0, -2), weight).view(stream.shape)
