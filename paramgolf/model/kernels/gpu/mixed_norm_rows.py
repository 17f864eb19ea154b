"""Gradients of a blend of two streams through its RMS norm: sums over channels and over rows in one pass."""

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def mixed_norm_backward(  # noqa: PLR0913
    du, dn, dlead, x, first, mix, dx, dfirst, shares, rows, factor,
    D: tl.constexpr, WIDTH: tl.constexpr, LEAD: tl.constexpr, HAS_DU: tl.constexpr, BOTH: tl.constexpr,
    ROWS: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """Every so many-th tile of ROWS rows: their gradients, and what they add to those of the blend's two vectors."""
    kind = dx.dtype.element_ty
    channel = tl.arange(0, WIDTH)[None, :]
    inside = channel < D
    # Rounded as the forward pass rounds them.
    keep = tl.load(mix + channel, mask=inside, other=0.0).to(kind).to(tl.float32)
    again = tl.load(mix + D + channel, mask=inside, other=0.0).to(kind).to(tl.float32)
    of_keep = tl.zeros((ROWS, WIDTH), dtype=tl.float32)
    of_again = tl.zeros((ROWS, WIDTH), dtype=tl.float32)
    for tile in tl.range(tl.program_id(0), tl.cdiv(rows, ROWS), tl.num_programs(0), num_stages=STAGES):
        row = (tile * ROWS + tl.arange(0, ROWS))[:, None]
        real = (row < rows) & inside
        place = row * D + channel
        a = tl.load(x + place, mask=real, other=0.0).to(tl.float32)
        b = tl.load(first + place, mask=real, other=0.0).to(tl.float32)
        given = tl.load(dn + place, mask=real, other=0.0).to(tl.float32)
        if LEAD > 0:
            given += tl.load(dlead + row * LEAD + channel, mask=(row < rows) & (channel < LEAD), other=0.0).to(
                tl.float32
            )
        u = keep * a + again * b
        scale = tl.rsqrt(tl.sum(u * u, axis=1, keep_dims=True) / D + 1.1920929e-07)
        along = tl.sum(given * u, axis=1, keep_dims=True) * (scale * scale / D)
        total = (given - u * along) * (scale * factor)
        if HAS_DU:
            total += tl.load(du + place, mask=real, other=0.0).to(tl.float32)
        tl.store(dx + place, (total * keep).to(kind), mask=real)
        if BOTH:
            tl.store(dfirst + place, (total * again).to(kind), mask=real)
        of_keep += total * a
        of_again += total * b
    out = shares + tl.program_id(0) * (2 * D) + channel
    tl.store(out, tl.sum(of_keep, axis=0, keep_dims=True), mask=inside)
    tl.store(out + D, tl.sum(of_again, axis=0, keep_dims=True), mask=inside)


def run_mixed_norm_backward(
    given: tuple[Tensor | None, Tensor, Tensor | None],
    streams: list[Tensor],
    mix: Tensor,
    factor: float,
    shares: Tensor,
    *,
    both: bool,
) -> tuple[Tensor, Tensor]:
    """Gradients of x and, if `both`, of x0 (N, D); `shares` (P, 2, D), one for each program, is filled."""
    (du, dn, dlead), (x, x0) = given, streams
    rows, dim = x.shape
    assert x.numel() < 2**31, x.shape
    width = triton.next_power_of_2(dim)
    dx, dx0 = torch.empty_like(x), torch.empty_like(x0) if both else x0.new_empty(0)
    mixed_norm_backward[(len(shares),)](
        dn if du is None else du, dn, dn if dlead is None else dlead, x, x0, mix, dx, dx0 if both else dx, shares,
        rows, factor, dim, width, 0 if dlead is None else dlead.shape[-1], du is not None, both,
        max(1, 1024 // width), 3, num_warps=4,
    )  # fmt: skip
    return dx, dx0
