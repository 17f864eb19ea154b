"""Products of the layers through QuACK's Hopper kernels: our epilogues, their pipeline.

Two groups of warps take turns: one runs its tile's epilogue while the other's product fills the tensor cores, which
Triton cannot express on Hopper. Epilogues are traced for one number each, and the library goes by the names of their
parameters (`acc` the sum, `c` what is read beside it); they are the functions `square_with_sign` and
`square_derivative` of `squared_products`. Bundles do without.
Source: github.com/Dao-AILab/quack (`quack.epilogue`), which comes with flash-attn-4.
"""

from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor


class QuackTiling(NamedTuple):
    """How a product is cut up."""

    rows: int = 192
    columns: int = 128
    pingpong: bool = True
    """Two groups of warps, a tile each in turn; otherwise both on one tile."""
    cluster: tuple[int, int] = (1, 2)
    """Neighbouring tiles (down, across) that share what they load."""
    bands: int = 8
    """How many tiles wide the order of tiles is, for the cache."""
    wide: bool = True
    """Epilogues of 64 columns at a time in place of 32: of what they read, 40 KB are on their way at once, not 16."""


def square_of_sum(acc: Any, slope: Any) -> dict[str, Any]:
    """(h or slope·h)² of the sum h, its lowest bf16 bit telling whether h was negative."""
    from cutlass import Float32, Int32, cute

    leaky = cute.arch.fmax(acc, acc * slope)  # slope is at most 1
    bits = (leaky * leaky).bitcast(Int32)
    sign = (acc.bitcast(Int32) >> 15) & 65536
    return {"D": (((bits + 65536 - sign) & -131072) | sign).bitcast(Float32)}


def square_of_scaled_sum(acc: Any, slope: Any, step: Any) -> dict[str, Any]:
    """The same of the sum times `step`."""
    return square_of_sum(acc * step, slope)


def sum_times_derivative(acc: Any, c: Any, below: Any) -> dict[str, Any]:
    """The sum times d(a)/d(h) of the square `c` with its sign; `below` is what a negative h has in place of 2."""
    from cutlass import Float32, Int32, cute

    negative = (c.bitcast(Int32) << 15) >> 31  # all ones where h is negative
    two = Float32(2.0).bitcast(Int32)
    factor = (two ^ (negative & (two ^ below.bitcast(Int32)))).bitcast(Float32)
    return {"D": acc * cute.math.sqrt(c, approx=True, ftz=True) * factor}


def sum_and_stream(acc: Any, c: Any) -> dict[str, Any]:
    """The sum and what is beside it."""
    return {"D": acc + c}


class QuackEpilogues(NamedTuple):
    """Ours as the library knows them; what it compiles is kept with them."""

    square: Any
    scaled_square: Any
    derivative: Any
    stream: Any


@cache
def quack_epilogues() -> QuackEpilogues:
    """All, made once."""
    from quack.epilogue.frontend import gemm_epilogue

    epilogue = gemm_epilogue()
    ours = (square_of_sum, square_of_scaled_sum, sum_times_derivative, sum_and_stream)
    return QuackEpilogues(*(epilogue(body) for body in ours))


def run_quack_square(x: Tensor, weight: Tensor, slope: float, how: QuackTiling, step: Tensor | None = None) -> Tensor:
    """x (N, D), weight (H, D) bf16 -> (N, H) `packed_square` of their product; of e4m3, of the product times `step`."""
    assert 0 <= slope <= 1, slope
    out = x.new_empty(len(x), len(weight), dtype=torch.bfloat16)
    given: dict[str, Any] = {"slope": slope}
    if step is None:
        quack_epilogues().square.gemm(x, weight, out, epi_args=given, **quack_options(how))
    else:
        given["step"] = step
        quack_epilogues().scaled_square.gemm(x, weight, out, epi_args=given, **quack_options(how, eight_bits=True))
    return out


def run_quack_square_derivative(gradient: Tensor, weight: Tensor, a: Tensor, slope: float, how: QuackTiling) -> Tensor:
    """gradient (N, D), weight (D, H), a (N, H) bf16 -> (N, H), the gradient of h."""
    out = a.new_empty(a.shape)
    below = {"below": -2.0 * slope}
    quack_epilogues().derivative.gemm(gradient, weight, out, a, epi_args=below, b_kn=True, **quack_options(how))
    return out


def run_quack_sum(stream: Tensor, a: Tensor, weight: Tensor, how: QuackTiling) -> Tensor:
    """stream (N, D), a (N, K), weight (D, K) bf16 -> (N, D): the stream and the product of the others."""
    out = stream.new_empty(stream.shape)
    quack_epilogues().stream.gemm(a, weight, out, stream, epi_args={}, **quack_options(how))
    return out


def wide_epilogue(tile: Any, atoms: Any, kind: Any = None) -> tuple[int, int]:
    """In place of the library's choice of what an epilogue works on at a time: rows and columns.

    In the library's cache of compiled kernels it goes by its name: what says something else is to be called otherwise.
    """
    return 64, 64


def quack_options(how: QuackTiling, *, eight_bits: bool = False) -> dict[str, Any]:
    """A tiling in the library's words."""
    down, across = how.cluster
    attributes: tuple[tuple[str, Any], ...] = (("_compute_tile_shape_or_override", wide_epilogue),) if how.wide else ()
    if eight_bits:
        # Sums stay in the tensor cores: added up outside, as 8 bits are by default, they spill from the registers.
        attributes = (*attributes, ("fp8_slow_accum", False))
    return {
        "tile_M": how.rows,
        "tile_N": how.columns,
        "pingpong": how.pingpong,
        "cluster_M": down,
        "cluster_N": across,
        "max_swizzle_size": how.bands,
        "post_init_attrs": attributes,
    }
