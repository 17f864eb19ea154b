"""Cross-entropy of tanh-softcapped logits that never holds them in fp32.

    z = cap · tanh(l / cap);   cost = log Σ exp z − z[target];   ∂cost/∂l = (softmax z − 1[target]) (1 − (z/cap)²)

The forward pass leaves that gradient, without the factor from above, where the logits were. A factor a row commutes
with the two products of the backward pass: it multiplies rows of their narrow operands.
One read and one write of the (N, V) matrix, where separate passes make two reads and a write, or three.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, library

from paramgolf.model.kernels.eight_bits import code_product, norm_codes, weight_codes


def softcapped_costs(logits: Tensor, targets: Tensor, cap: float) -> Tensor:
    """The plain twin: (N, V), (N,) -> (N,) fp32 nats."""
    return F.cross_entropy(cap * torch.tanh(logits.float() / cap), targets, reduction="none")


def softcapped_gradient(logits: Tensor, targets: Tensor, cap: float) -> Tensor:
    """The plain twin of what the kernel leaves in the logits: (N, V), (N,) -> (N, V) like logits."""
    bound = torch.tanh(logits.float() / cap)
    share = (cap * bound).softmax(-1) - F.one_hot(targets, logits.shape[-1])
    return (share * (1 - bound.square())).to(logits.dtype)


@library.custom_op("paramgolf::head_costs", mutates_args=())
def head_costs(
    x: Tensor, weight: Tensor, targets: Tensor, cap: float, keep: bool, step: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """x (N, D), weight (V, D), targets (N,) -> nats (N,) fp32 and, if `keep`, the gradient (N, V), else nothing.

    With `step`, x and weight are e4m3 codes.
    """
    from paramgolf.model.kernels.gpu.softcapped_rows import run_softcapped_rows

    logits = x @ weight.T if step is None else code_product(x, weight, step)
    nats = x.new_empty(len(x), dtype=torch.float32)
    run_softcapped_rows(logits, targets, nats, cap, keep=keep)
    return nats, logits if keep else logits.new_empty(0)


@head_costs.register_fake
def head_costs_shapes(
    x: Tensor, weight: Tensor, targets: Tensor, cap: float, keep: bool, step: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Shapes of the forward pass."""
    dtype = x.dtype if step is None else torch.bfloat16
    gradient = x.new_empty((x.shape[0], weight.shape[0]) if keep else (0,), dtype=dtype)
    return x.new_empty(x.shape[0], dtype=torch.float32), gradient


class HeadCosts(torch.autograd.Function):
    """The operator with its gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, targets: Tensor, cap: float, eight_bits: bool) -> Tensor:
        """Keeps the gradient of the logits."""
        if eight_bits:
            codes, step = weight_codes(weight)
            nats, gradient = head_costs(norm_codes(x), codes, targets, cap, True, step)
        else:
            nats, gradient = head_costs(x, weight, targets, cap, True)
        ctx.save_for_backward(x, weight, gradient)
        return nats

    @staticmethod
    def backward(ctx: Any, *factors: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of x and weight."""
        x, weight, gradient = ctx.saved_tensors
        factor = factors[0].unsqueeze(1)
        of_x = ((gradient @ weight).float() * factor).to(x.dtype)
        of_weight = gradient.T @ (x.float() * factor).to(x.dtype) if ctx.needs_input_grad[1] else None
        return of_x, of_weight, None, None, None


def head_nats(x: Tensor, weight: Tensor, targets: Tensor, cap: float, eight_bits: bool = False) -> Tensor:
    """x (N, D) and weight (V, D) in one dtype, targets (N,) -> (N,) fp32 nats; on a GPU.

    With `eight_bits` the product is one of e4m3 numbers; the weight then learns, and `x` comes from a norm.
    """
    if torch.is_grad_enabled():
        return HeadCosts.apply(x, weight, targets, cap, eight_bits)
    return head_costs(x, weight, targets, cap, False)[0]
