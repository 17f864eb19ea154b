"""Gradients of a step of two lanes: of what the halves write, and sums for the six factors."""

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def lane_step_backward(  # noqa: PLR0913
    given, other, lane, second, a, m, write, da, dm, shares, count, SIZE: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """Every so many-th tile of SIZE elements; `given` and `other` are the gradients of the two lanes."""
    kind = da.dtype.element_ty
    a_first, a_other = tl.load(write), tl.load(write + 1)
    m_first, m_other = tl.load(write + 2), tl.load(write + 3)
    keep_first = tl.zeros((SIZE,), dtype=tl.float32)
    keep_other = tl.zeros((SIZE,), dtype=tl.float32)
    of_a_first = tl.zeros((SIZE,), dtype=tl.float32)
    of_a_other = tl.zeros((SIZE,), dtype=tl.float32)
    of_m_first = tl.zeros((SIZE,), dtype=tl.float32)
    of_m_other = tl.zeros((SIZE,), dtype=tl.float32)
    for tile in tl.range(tl.program_id(0), tl.cdiv(count, SIZE), tl.num_programs(0), num_stages=STAGES):
        place = tile * SIZE + tl.arange(0, SIZE)
        real = place < count
        one = tl.load(given + place, mask=real, other=0.0).to(tl.float32)
        two = tl.load(other + place, mask=real, other=0.0).to(tl.float32)
        wrote = tl.load(a + place, mask=real, other=0.0).to(tl.float32)
        thought = tl.load(m + place, mask=real, other=0.0).to(tl.float32)
        tl.store(da + place, (a_first * one + a_other * two).to(kind), mask=real)
        tl.store(dm + place, (m_first * one + m_other * two).to(kind), mask=real)
        keep_first += one * tl.load(lane + place, mask=real, other=0.0).to(tl.float32)
        keep_other += two * tl.load(second + place, mask=real, other=0.0).to(tl.float32)
        of_a_first += one * wrote
        of_a_other += two * wrote
        of_m_first += one * thought
        of_m_other += two * thought
    out = shares + tl.program_id(0) * 6
    tl.store(out, tl.sum(keep_first, axis=0))
    tl.store(out + 1, tl.sum(keep_other, axis=0))
    tl.store(out + 2, tl.sum(of_a_first, axis=0))
    tl.store(out + 3, tl.sum(of_a_other, axis=0))
    tl.store(out + 4, tl.sum(of_m_first, axis=0))
    tl.store(out + 5, tl.sum(of_m_other, axis=0))


def run_lane_step_backward(
    gradients: list[Tensor], given: list[Tensor], write: Tensor, shares: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradients of a and m; `shares` (P, 6), one row for each program, is filled."""
    da, dm = torch.empty_like(given[2]), torch.empty_like(given[3])
    assert da.numel() < 2**31, da.shape
    lane_step_backward[(len(shares),)](
        *gradients, *given, write.contiguous(), da, dm, shares, da.numel(), 1024, 3, num_warps=4
    )
    return da, dm
