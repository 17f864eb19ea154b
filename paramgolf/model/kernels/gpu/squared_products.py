"""Matrix products whose epilogue squares, or multiplies with the square's derivative, before anything is stored."""

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor


class Tiling(NamedTuple):
    """How a product is cut up."""

    rows: int = 128
    columns: int = 256
    depth: int = 64
    warps: int = 8
    stages: int = 3
    persistent: bool = True


@triton.jit
def square_with_sign(h, slope):
    """bf16 of (h or slope·h)², its lowest bit telling whether h was negative."""
    leaky = tl.maximum(h, slope * h)  # slope is at most 1
    bits = (leaky * leaky).to(tl.int32, bitcast=True)
    negative = h.to(tl.int32, bitcast=True) >> 31  # all ones where h is negative
    # To the nearest of the bf16 numbers that end in the sign: they are the upper halves of fp32 ones.
    kept = ((bits + (~negative & 65536)) & -131072) | (negative & 65536)
    return (kept >> 16).to(tl.int16).to(tl.bfloat16, bitcast=True)


@triton.jit
def square_derivative(a, slope):
    """d(a)/d(h) from the bf16 of `square_with_sign`."""
    root = tl.sqrt(a.to(tl.float32))
    negative = (a.to(tl.int16, bitcast=True) & 1) == 1
    return root * tl.where(negative, -2.0 * slope, 2.0)


@triton.jit
def squared_product(  # noqa: PLR0913
    left, right, square, out, unit, rows, columns, depth, slope,
    SCALED: tl.constexpr, BACKWARD: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr, GROUP: tl.constexpr,
):  # fmt: skip
    """Forward: out = squared(left · rightᵀ · unit). Backward: out = (left · right) · derivative(square)."""
    of_code = tl.load(unit) if SCALED else 1.0
    down, across = tl.cdiv(rows, ROWS), tl.cdiv(columns, COLUMNS)
    for tile in tl.range(tl.program_id(0), down * across, tl.num_programs(0), flatten=True):
        # Tiles in bands of GROUP rows, so that neighbours share operands in the cache.
        band = tile // (GROUP * across)
        height = tl.minimum(down - band * GROUP, GROUP)
        row = (band * GROUP + (tile % (GROUP * across)) % height) * ROWS
        column = ((tile % (GROUP * across)) // height) * COLUMNS
        total = tl.zeros((ROWS, COLUMNS), dtype=tl.float32)
        for step in range(tl.cdiv(depth, DEPTH)):
            a = left.load([row, step * DEPTH])
            if BACKWARD:
                total = tl.dot(a, right.load([step * DEPTH, column]), total)
            else:
                total = tl.dot(a, right.load([column, step * DEPTH]).T, total)
        if SCALED:
            total *= of_code
        # In two halves: less of the tile is in registers at once.
        halves = tl.permute(tl.reshape(total, (ROWS, 2, COLUMNS // 2)), (0, 2, 1))
        first, second = tl.split(halves)
        if BACKWARD:
            before = square.load([row, column])
            out.store([row, column], (first * square_derivative(before, slope)).to(tl.bfloat16))
            after = square.load([row, column + COLUMNS // 2])
            out.store([row, column + COLUMNS // 2], (second * square_derivative(after, slope)).to(tl.bfloat16))
        else:
            out.store([row, column], square_with_sign(first, slope))
            out.store([row, column + COLUMNS // 2], square_with_sign(second, slope))


def run_squared_product(
    left: Tensor, right: Tensor, square: Tensor | None, slope: float, how: Tiling, step: Tensor | None = None
) -> Tensor:
    """left (M, K) bf16; forward: right (N, K) -> (M, N); backward: right (K, N), square (M, N) -> (M, N).

    Forward, both may be e4m3, their product times the scalar `step`.
    """
    assert 0 <= slope <= 1, slope
    rows, depth = left.shape
    columns = right.shape[0] if square is None else right.shape[1]
    out = left.new_empty(rows, columns, dtype=torch.bfloat16)
    of_right = [how.columns, how.depth] if square is None else [how.depth, how.columns]
    half = [how.rows, how.columns // 2]
    described = TensorDescriptor.from_tensor(out, half)
    tiles = triton.cdiv(rows, how.rows) * triton.cdiv(columns, how.columns)
    processors = torch.cuda.get_device_properties(left.device).multi_processor_count if how.persistent else tiles
    squared_product[(min(tiles, processors),)](
        TensorDescriptor.from_tensor(left, [how.rows, how.depth]),
        TensorDescriptor.from_tensor(right, of_right),
        described if square is None else TensorDescriptor.from_tensor(square, half),
        described,
        left if step is None else step, rows, columns, depth, slope,
        SCALED=step is not None, BACKWARD=square is not None,
        ROWS=how.rows, COLUMNS=how.columns, DEPTH=how.depth, GROUP=8,
        num_warps=how.warps, num_stages=how.stages,
    )  # fmt: skip
    return out
