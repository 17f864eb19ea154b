"""Gradients of a blend of streams through its RMS norm: sums over channels and over rows in one pass."""

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def mixed_norm_backward(  # noqa: PLR0913
    du, dn, dlead, dpassed, first, second, third, weights, dfirst, dsecond, dthird, shares, rows, factor,
    D: tl.constexpr, WIDTH: tl.constexpr, LEAD: tl.constexpr, HAS_DU: tl.constexpr, PASSED: tl.constexpr,
    THREE: tl.constexpr, ROWS: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """Every so many-th tile of ROWS rows: their gradients, and what they add to those of the weights."""
    kind = dfirst.dtype.element_ty
    channel = tl.arange(0, WIDTH)[None, :]
    inside = channel < D
    weight = tl.load(weights + channel, mask=inside, other=0.0)
    other = tl.load(weights + D + channel, mask=inside, other=0.0)
    of_weight = tl.zeros((ROWS, WIDTH), dtype=tl.float32)
    of_other = tl.zeros((ROWS, WIDTH), dtype=tl.float32)
    if THREE:
        last = tl.load(weights + 2 * D + channel, mask=inside, other=0.0)
        of_last = tl.zeros((ROWS, WIDTH), dtype=tl.float32)
    for tile in tl.range(tl.program_id(0), tl.cdiv(rows, ROWS), tl.num_programs(0), num_stages=STAGES):
        row = (tile * ROWS + tl.arange(0, ROWS))[:, None]
        real = (row < rows) & inside
        place = row * D + channel
        a = tl.load(first + place, mask=real, other=0.0).to(tl.float32)
        b = tl.load(second + place, mask=real, other=0.0).to(tl.float32)
        u = weight * a + other * b
        if THREE:
            c = tl.load(third + place, mask=real, other=0.0).to(tl.float32)
            u += last * c
        given = tl.load(dn + place, mask=real, other=0.0).to(tl.float32)
        if LEAD > 0:
            leads = (row < rows) & (channel < LEAD)
            given += tl.load(dlead + row * LEAD + channel, mask=leads, other=0.0).to(tl.float32)
        scale = tl.rsqrt(tl.sum(u * u, axis=1, keep_dims=True) / D + 1.1920929e-07)
        along = tl.sum(given * u, axis=1, keep_dims=True) * (scale * scale / D)
        total = (given - u * along) * (scale * factor)
        if HAS_DU:
            total += tl.load(du + place, mask=real, other=0.0).to(tl.float32)
        back = total * weight
        if PASSED:
            back += tl.load(dpassed + place, mask=real, other=0.0).to(tl.float32)
        tl.store(dfirst + place, back.to(kind), mask=real)
        tl.store(dsecond + place, (total * other).to(kind), mask=real)
        of_weight += total * a
        of_other += total * b
        if THREE:
            tl.store(dthird + place, (total * last).to(kind), mask=real)
            of_last += total * c
    out = shares + tl.program_id(0) * ((3 if THREE else 2) * D) + channel
    tl.store(out, tl.sum(of_weight, axis=0, keep_dims=True), mask=inside)
    tl.store(out + D, tl.sum(of_other, axis=0, keep_dims=True), mask=inside)
    if THREE:
        tl.store(out + 2 * D, tl.sum(of_last, axis=0, keep_dims=True), mask=inside)


def run_mixed_norm_backward(
    given: tuple[Tensor | None, Tensor, Tensor | None, Tensor | None],
    streams: list[Tensor],
    weights: Tensor,
    factor: float,
    shares: Tensor,
) -> list[Tensor]:
    """Gradients of the two or three streams (N, D); `shares` (P, I, D), one for each program, is filled."""
    du, dn, dlead, dpassed = given
    rows, dim = dn.shape
    assert dn.numel() < 2**31, dn.shape
    width, found = triton.next_power_of_2(dim), [torch.empty_like(stream) for stream in streams]
    mixed_norm_backward[(len(shares),)](
        dn if du is None else du, dn, dn if dlead is None else dlead, dn if dpassed is None else dpassed,
        streams[0], streams[1], streams[-1], weights,
        found[0], found[1], found[-1], shares, rows, factor,
        dim, width, 0 if dlead is None else dlead.shape[-1], du is not None, dpassed is not None, len(streams) == 3,
        max(1, 1024 // width), 3, num_warps=4,
    )  # fmt: skip
    return found
