"""XSA and a gate a head on attention's output, one pass each way.

    out[h] = (y[h] − v (y[h]·v) / ‖v‖²) · height · σ(sharpness · logit[h])

All in fp32, one rounding at the end. Plain twin: `xsa` and a head gate one after the other.
"""

from typing import Any

import torch
from torch import Tensor, library


@library.custom_op("paramgolf::own_value", mutates_args=())
def own_value(y: Tensor, v: Tensor, logits: Tensor, sharpness: float, height: float) -> Tensor:
    """y (N, H, E), v (N, K, E), logits (N, H) -> like y."""
    from paramgolf.model.kernels.gpu.own_value_rows import run_own_value_forward

    return run_own_value_forward(y, v, logits, sharpness, height)


@own_value.register_fake
def own_value_shape(y: Tensor, v: Tensor, logits: Tensor, sharpness: float, height: float) -> Tensor:
    """Shape of the forward pass."""
    return torch.empty_like(y)


@library.custom_op("paramgolf::own_value_gradient", mutates_args=())
def own_value_gradient(
    y: Tensor, v: Tensor, logits: Tensor, gradient: Tensor, sharpness: float, height: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of y, v and logits."""
    from paramgolf.model.kernels.gpu.own_value_rows import run_own_value_backward

    return run_own_value_backward(y, v, logits, gradient, sharpness, height)


@own_value_gradient.register_fake
def own_value_gradient_shapes(
    y: Tensor, v: Tensor, logits: Tensor, gradient: Tensor, sharpness: float, height: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Shapes of the backward pass."""
    return torch.empty_like(y), v.new_empty(v.shape), torch.empty_like(logits)


class OwnValue(torch.autograd.Function):
    """The two operators as one differentiable function."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, v: Tensor, logits: Tensor, sharpness: float, height: float) -> Tensor:
        """Keeps what it was given."""
        ctx.save_for_backward(y, v, logits)
        ctx.sharpness, ctx.height = sharpness, height
        return own_value(y, v, logits, sharpness, height)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of the three."""
        found = own_value_gradient(*ctx.saved_tensors, gradients[0].contiguous(), ctx.sharpness, ctx.height)
        return *found, None, None


def without_own_value(y: Tensor, v: Tensor, logits: Tensor, sharpness: float, height: float) -> Tensor:
    """y (B, T, H, E), v (B, T, K, E), logits (B, T, H), all bf16 on a GPU -> like y."""
    # Values may lie among others, tokens of them apart.
    dense = v if v.stride()[2:] == (v.shape[3], 1) else v.contiguous()
    rows = (y.flatten(0, 1).contiguous(), dense.flatten(0, 1), logits.flatten(0, 1).contiguous())
    return OwnValue.apply(*rows, sharpness, height).view_as(y)
