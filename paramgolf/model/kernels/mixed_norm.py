"""Streams blended and normalized: what a block reads, and the gradients of it all in one pass over memory.

    u = Σ weights[i] ⊙ streams[i],   n = factor · u / sqrt(mean u² + ε)

The streams are the residual, a U-Net skip where one comes in, and the first embedding; a gated skip in front of an
x0 mix is one blend of three. Forward is left to the compiler, which fuses it with what makes the residual. Backward
needs sums over the channels of a row (of the norm) and over the rows of a channel (of the weights), which the compiler
takes in two passes or three: here each tensor is read once. The gradient of a few leading channels of `n`, which gates
read, comes apart and is added inside, so that nothing of the size of `n` is made for it.
Plain twin: `unet_skips`, `x0_mix`, `rms_norm` and `ln_scale` one after another.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, library

NORM_RUNS = 4 * 132
"""How many programs share the rows of a backward pass: four for each of a Hopper's multiprocessors, all at once.

Not fewer where there are few rows: a compiler that leaves the count of rows open would fix it to know this number.
"""


class Normed(NamedTuple):
    """What a block reads, and its norm."""

    residual: Tensor
    whole: Tensor
    lead: Tensor
    """The leading channels of `whole` that gates read."""
    passed: Tensor
    """The first stream as it came, for whoever uses it later: its gradient is added inside too."""


class Merge(NamedTuple):
    """A stream to be blended into the residual: share[0] ⊙ residual + share[1] ⊙ stream."""

    joining: Tensor
    """(B, T, D)."""
    share: Tensor
    """(2, D) fp32."""


def blended_norm(streams: Sequence[Tensor], weights: Tensor, factor: float, lead: int) -> tuple[Tensor, Tensor, Tensor]:
    """The plain twin: streams (..., D) and weights (I, D) -> u and n like a stream, the first `lead` channels of n."""
    parts = [weight * stream for weight, stream in zip(torch.unbind(weights), streams, strict=True)]
    u = sum(parts[1:], parts[0]).to(streams[0].dtype)
    n = factor * F.rms_norm(u, u.shape[-1:])
    return u, n, n[..., :lead].clone()


@library.custom_op("paramgolf::mixed_norm_gradient", mutates_args=())
def mixed_norm_gradient(
    du: Tensor | None,
    dn: Tensor,
    dlead: Tensor | None,
    dpassed: Tensor | None,
    streams: list[Tensor],
    weights: Tensor,
    factor: float,
) -> list[Tensor]:
    """Gradients of the streams (N, D); last, shares (P, I, D) fp32 of that of the weights."""
    from paramgolf.model.kernels.gpu.mixed_norm_rows import run_mixed_norm_backward

    shares = weights.new_empty(NORM_RUNS, *weights.shape, dtype=torch.float32)
    return [*run_mixed_norm_backward((du, dn, dlead, dpassed), streams, weights, factor, shares), shares]


@mixed_norm_gradient.register_fake
def mixed_norm_gradient_shapes(
    du: Tensor | None,
    dn: Tensor,
    dlead: Tensor | None,
    dpassed: Tensor | None,
    streams: list[Tensor],
    weights: Tensor,
    factor: float,
) -> list[Tensor]:
    """Shapes of the backward pass."""
    shares = weights.new_empty(NORM_RUNS, *weights.shape, dtype=torch.float32)
    return [*(torch.empty_like(stream) for stream in streams), shares]


class MixedNorm(torch.autograd.Function):
    """Blend and norm with the one-pass gradient. An output that is not used is left out: compiled, it gets zeros.

    The third stream has a name since the compiler fails on `*streams` where nothing asks for a gradient.
    """

    @staticmethod
    def forward(  # noqa: PLR0913
        ctx: Any, weights: Tensor, factor: float, lead: int, goes_on: bool, passes: bool, x: Tensor, y: Tensor,
        z: Tensor | None,
    ) -> Any:  # fmt: skip
        """Keeps what it was given: factor, lead, whether the blend goes on and whether x passes."""
        streams = [x, y] if z is None else [x, y, z]
        ctx.save_for_backward(weights, *streams)
        ctx.factor, ctx.lead, ctx.goes_on, ctx.passes = factor, lead, goes_on, passes
        u, n, front = blended_norm(streams, weights, factor, lead)
        return (*((u,) if goes_on else ()), n, *((front,) if lead else ()), *((x.view_as(x),) if passes else ()))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of the weights and the streams."""
        weights, *streams = ctx.saved_tensors
        whole = [gradient.contiguous() for gradient in gradients]
        place = 1 if ctx.goes_on else 0  # the compiler of torch 2.11 takes no bool for an index
        du, dn = whole[0] if ctx.goes_on else None, whole[place]
        dlead = whole[place + 1] if ctx.lead else None
        dpassed = whole[-1] if ctx.passes else None
        *found, shares = mixed_norm_gradient(du, dn, dlead, dpassed, streams, weights, ctx.factor)
        return shares.sum(0), None, None, None, None, *found, *[None] * (3 - len(found))


def mixed_norm(
    streams: Sequence[Tensor], weights: Tensor, factor: float, lead: int, *, goes_on: bool = True, passes: bool = False
) -> Normed:
    """Two or three streams (B, T, D) bf16 on a GPU, weights (I, D) fp32 -> blend, `factor` times its norm, its lead.

    Without `goes_on` the blend is not wanted but for its norm, which then stands in its place; with `passes` the first
    stream is wanted too.
    """
    x, y, *rest = (stream.flatten(0, 1).contiguous() for stream in streams)
    found = MixedNorm.apply(weights, factor, lead, goes_on, passes, x, y, rest[0] if rest else None)
    parts = [tensor.unflatten(0, streams[0].shape[:2]) for tensor in found]
    place = 1 if goes_on else 0
    norm = parts[place]
    front = parts[place + 1] if lead else norm[..., :0]
    return Normed(parts[0], norm, front, parts[-1] if passes else streams[0])
