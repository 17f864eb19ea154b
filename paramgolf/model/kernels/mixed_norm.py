"""Residual and first embedding blended and normalized; the gradients of everything in one pass over memory.

    u = keep ⊙ x + again ⊙ x0,   n = factor · u / sqrt(mean u² + ε)

Forward is left to the compiler, which fuses it with what makes `x`. Backward needs sums over the channels of a row (of
the norm) and over the rows of a channel (of keep and again), which the compiler takes in two passes: here each of the
tensors is read once. The gradient of a few leading channels of `n`, which gates read, comes apart and is added inside,
so that nothing of the size of `n` is made for it. Plain twin: `x0_mix`, `rms_norm` and `ln_scale` one after another.
"""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, library


class Normed(NamedTuple):
    """What a block reads, and its norm."""

    residual: Tensor
    whole: Tensor
    lead: Tensor
    """The leading channels of `whole` that gates read."""


def blended_norm(x: Tensor, x0: Tensor, mix: Tensor, factor: float, lead: int) -> tuple[Tensor, Tensor, Tensor]:
    """The plain twin: x and x0 (..., D), mix (2, D) -> u and n like x, the first `lead` channels of n."""
    keep, again = torch.unbind(mix.to(x.dtype))
    u = keep * x + again * x0
    n = factor * F.rms_norm(u, u.shape[-1:])
    return u, n, n[..., :lead].clone()


@library.custom_op("paramgolf::mixed_norm_gradient", mutates_args=())
def mixed_norm_gradient(
    du: Tensor | None, dn: Tensor, dlead: Tensor | None, streams: list[Tensor], mix: Tensor, factor: float, both: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x and, if `both`, of x0 (N, D), and shares (P, 2, D) fp32 of that of mix; `streams` is x, x0."""
    from paramgolf.model.kernels.gpu.mixed_norm_rows import run_mixed_norm_backward

    shares = mix.new_empty(row_runs(len(dn)), *mix.shape, dtype=torch.float32)
    return *run_mixed_norm_backward((du, dn, dlead), streams, mix, factor, shares, both=both), shares


@mixed_norm_gradient.register_fake
def mixed_norm_gradient_shapes(
    du: Tensor | None, dn: Tensor, dlead: Tensor | None, streams: list[Tensor], mix: Tensor, factor: float, both: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Shapes of the backward pass."""
    x, x0 = streams
    shares = mix.new_empty(row_runs(len(x)), *mix.shape, dtype=torch.float32)
    return torch.empty_like(x), torch.empty_like(x0) if both else x0.new_empty(0), shares


def row_runs(rows: int) -> int:
    """How many programs share the rows of a backward pass: four for each of a Hopper's multiprocessors, all at once."""
    return min(4 * 132, -(-rows // 8))


class MixedNorm(torch.autograd.Function):
    """Blend and norm with the one-pass gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, x0: Tensor, mix: Tensor, factor: float, lead: int) -> Any:
        """Keeps what it was given."""
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, x0, mix)
        ctx.factor = factor
        return blended_norm(x, x0, mix, factor, lead)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        """Gradients of x, x0 and mix. Of `u` there is none where only its norm goes on."""
        x, x0, mix = ctx.saved_tensors
        du, dn, dlead = (None if gradient is None else gradient.contiguous() for gradient in gradients)
        dn = torch.zeros_like(x) if dn is None else dn
        both = ctx.needs_input_grad[1]
        dx, dx0, shares = mixed_norm_gradient(du, dn, dlead, [x, x0], mix, ctx.factor, both)
        return dx, dx0 if both else None, shares.sum(0).to(mix.dtype), None, None


def mixed_norm(x: Tensor, x0: Tensor, mix: Tensor, factor: float, lead: int) -> Normed:
    """x and x0 (B, T, D) bf16 on a GPU, mix (2, D) fp32 -> their blend, `factor` times its norm, the norm's `lead`."""
    rows = (x.flatten(0, 1).contiguous(), x0.flatten(0, 1).contiguous())
    found = MixedNorm.apply(*rows, mix, factor, lead)
    return Normed(*(tensor.unflatten(0, x.shape[:2]) for tensor in found))
