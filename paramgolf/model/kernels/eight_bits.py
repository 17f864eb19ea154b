"""Products of 8-bit floats (e4m3), forward only: of what a norm has made with a weight matrix that learns.

    x wᵀ ≈ (q(x / a) q(w / b)ᵀ) · a · b,     q: the nearest e4m3 number,   a = 1/16,   b = max|w| / 448

What leaves an RMS norm of up to 784 channels stays below 448 / 16, so its step is a constant, and the cast joins the
kernel that normalizes: half a write more of (N, D), and no pass to look for a largest value. Gradients stay bf16: those
of weights would want copies of both operands turned around, and those of inputs a cast of their own, which costs what
it gains (docs/SPEED.md). Plain twin: the same numbers, multiplied in fp32. Source: KellerJordan/modded-nanogpt (head).
"""

from typing import Any

import torch
from torch import Tensor

NORM_STEP = 1 / 16
LARGEST = 448.0


def takes_eight_bits(weight: Tensor) -> bool:
    """Whether `weight` (out, D) learns, as only products that train are of 8 bits, and the device takes its sizes."""
    return weight.requires_grad and weight.shape[0] % 16 == 0 and weight.shape[1] % 16 == 0


def norm_codes(x: Tensor) -> Tensor:
    """x / NORM_STEP as e4m3, what would not fit cut off."""
    return (x.float() / NORM_STEP).clamp(-LARGEST, LARGEST).to(torch.float8_e4m3fn)


def weight_codes(weight: Tensor) -> tuple[Tensor, Tensor]:
    """weight / step as e4m3 and the step, a scalar fp32."""
    step = (weight.abs().amax().float() / LARGEST).clamp_min(1e-20)
    return (weight.float() / step).clamp(-LARGEST, LARGEST).to(torch.float8_e4m3fn), step


def plain_eight_bit_product(x: Tensor, weight: Tensor) -> Tensor:
    """The plain twin of `eight_bit_rows`: (N, D), (out, D) -> (N, out) fp32."""
    codes, step = weight_codes(weight)
    return (norm_codes(x).float() * NORM_STEP) @ (codes.float() * step).T


def eight_bit_rows(x: Tensor, weight: Tensor) -> Tensor:
    """x (N, D) from a norm, weight (out, D), D and out multiples of 16, on a GPU -> (N, out) bf16."""
    return code_product(norm_codes(x), *weight_codes(weight))


def code_product(x: Tensor, weight: Tensor, step: Tensor) -> Tensor:
    """`norm_codes` (N, D) and `weight_codes` (out, D) with their step -> (N, out) bf16."""
    norm_step = torch.full_like(step, NORM_STEP)
    return torch._scaled_mm(x, weight.T, scale_a=norm_step, scale_b=step, out_dtype=torch.bfloat16, use_fast_accum=True)


class EightBitProduct(torch.autograd.Function):
    """The product of 8-bit numbers with the gradients of the one it stands for."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        """Keeps what it was given."""
        ctx.save_for_backward(x, weight)
        return eight_bit_rows(x, weight)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of both."""
        x, weight = ctx.saved_tensors
        return gradients[0] @ weight, gradients[0].T @ x if ctx.needs_input_grad[1] else None


def eight_bit_product(x: Tensor, weight: Tensor) -> Tensor:
    """x (..., D) bf16 from a norm, weight (out, D) bf16, on a GPU -> (..., out)."""
    return EightBitProduct.apply(x.flatten(0, -2), weight).unflatten(0, x.shape[:-1])
