"""Two lanes after a layer: each a sum of itself and of what both halves write; the gradients in one pass over memory.

    lane[i] ← keep[i] · lane[i] + write[0, i] · a + write[1, i] · m

Forward is left to the compiler, which fuses it with the norms that follow. Backward the six factors want sums over
everything, for which the compiler reads all six tensors a second time. Plain twin: the step of `two_lanes`.
"""

from typing import Any

import torch
from torch import Tensor, library

LANE_RUNS = 4 * 132
"""How many programs share the elements: four for each of a Hopper's multiprocessors, however few elements there are."""


def plain_lane_step(lanes: tuple[Tensor, Tensor], a: Tensor, m: Tensor, keep: Tensor, write: Tensor) -> list[Tensor]:
    """The plain twin: four tensors of one shape, keep (2) and write (2, 2) -> the new lanes."""
    return [keep[i] * lane + write[0, i] * a + write[1, i] * m for i, lane in enumerate(lanes)]


@library.custom_op("paramgolf::lane_step_gradient", mutates_args=())
def lane_step_gradient(gradients: list[Tensor], given: list[Tensor], write: Tensor) -> list[Tensor]:
    """Gradients of a and m; last, shares (P, 6) fp32 of those of keep and write. `given` is lanes, a, m."""
    from paramgolf.model.kernels.gpu.lane_sums import run_lane_step_backward

    shares = write.new_empty(LANE_RUNS, 6, dtype=torch.float32)
    return [*run_lane_step_backward(gradients, given, write, shares), shares]


@lane_step_gradient.register_fake
def lane_step_gradient_shapes(gradients: list[Tensor], given: list[Tensor], write: Tensor) -> list[Tensor]:
    """Shapes of the backward pass."""
    shares = write.new_empty(LANE_RUNS, 6, dtype=torch.float32)
    return [torch.empty_like(given[2]), torch.empty_like(given[3]), shares]


class LaneStep(torch.autograd.Function):
    """The step with the one-pass gradient."""

    @staticmethod
    def forward(ctx: Any, l0: Tensor, l1: Tensor, a: Tensor, m: Tensor, keep: Tensor, write: Tensor) -> Any:
        """Keeps what it was given."""
        ctx.save_for_backward(l0, l1, a, m, keep, write)
        return tuple(plain_lane_step((l0, l1), a, m, keep, write))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of the four tensors and of the factors."""
        l0, l1, a, m, keep, write = ctx.saved_tensors
        whole = [gradient.contiguous() for gradient in gradients]
        da, dm, shares = lane_step_gradient(whole, [l0, l1, a, m], write)
        sums = shares.sum(0)
        return keep[0] * whole[0], keep[1] * whole[1], da, dm, sums[:2], sums[2:].view(2, 2)


def lane_step(lanes: tuple[Tensor, ...], a: Tensor, m: Tensor, keep: Tensor, write: Tensor) -> tuple[Tensor, Tensor]:
    """Two lanes, a and m (B, T, D) bf16 on a GPU, keep (2) and write (2, 2) fp32 -> the new lanes."""
    # Views: where the lanes part they are one tensor, which the compiler of torch 2.13 does not take twice.
    given = (tensor.contiguous().view_as(tensor) for tensor in (*lanes, a, m))
    first, second = LaneStep.apply(*given, keep, write)
    return first, second
