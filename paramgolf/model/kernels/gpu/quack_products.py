"""The feed-forward's two products through QuACK's Hopper kernels: our epilogues, their pipeline.

Two groups of warps take turns (`pingpong`): one runs its tile's epilogue while the other's product fills the tensor
cores, which Triton cannot express on Hopper. Source: github.com/Dao-AILab/quack, `quack.epilogue`, which comes with
flash-attn-4. Epilogues are traced scalar by scalar; each is the function of the same name in `squared_products`.
"""

from typing import Any, NamedTuple

import cutlass
from cutlass import cute
from quack.epilogue.frontend import gemm_epilogue
from torch import Tensor


class QuackTiling(NamedTuple):
    """How a product is cut up."""

    rows: int = 128
    columns: int = 192
    pingpong: bool = True
    """Two groups of warps, a tile each; otherwise both on one tile."""
    cluster: tuple[int, int] = (2, 1)
    """Neighbouring tiles (down, across) that share what they load."""
    bands: int = 8
    """How many tiles wide the order of tiles is, for the cache."""


@gemm_epilogue()
def quack_square(acc: Any, slope: Any) -> dict[str, Any]:
    """(h or slope·h)², its lowest bf16 bit telling whether h was negative."""
    leaky = cute.arch.fmax(acc, acc * slope)  # slope is at most 1
    bits = (leaky * leaky).bitcast(cutlass.Int32)
    negative = acc.bitcast(cutlass.Int32) >> 31  # all ones where h is negative
    sign = negative & 65536
    return {"D": (((bits + (sign ^ 65536)) & -131072) | sign).bitcast(cutlass.Float32)}


@gemm_epilogue()
def quack_square_derivative(acc: Any, c: Any, slope: Any) -> dict[str, Any]:
    """acc · d(a)/d(h), `c` being the square with its sign."""
    # Not a choice of two: minus the bit, as all ones, takes the sum from 2 to -2 slope.
    negative = (c.bitcast(cutlass.Int32) >> 16) & 1
    factor = negative.to(cutlass.Float32) * slope + 2.0
    return {"D": acc * (cute.math.sqrt(c, approx=True) * factor)}


def run_quack_square(x: Tensor, weight: Tensor, slope: float, how: QuackTiling) -> Tensor:
    """x (N, D), weight (H, D) bf16 -> (N, H) `packed_square` of their product."""
    out = x.new_empty(len(x), len(weight))
    quack_square.gemm(x, weight, out, epi_args={"slope": slope}, **quack_options(how))
    return out


def run_quack_square_derivative(gradient: Tensor, weight: Tensor, a: Tensor, slope: float, how: QuackTiling) -> Tensor:
    """gradient (N, D), weight (D, H), a (N, H) bf16 -> (N, H), the gradient of h."""
    out = a.new_empty(a.shape)
    # What a negative h has in place of 2 is -2 slope.
    given = {"slope": -2.0 * slope - 2.0}
    quack_square_derivative.gemm(gradient, weight, out, a, epi_args=given, b_kn=True, **quack_options(how))
    return out


def quack_options(how: QuackTiling) -> dict[str, Any]:
    """A tiling in the library's words."""
    across = dict(zip(("cluster_M", "cluster_N"), how.cluster))
    return {
        "tile_M": how.rows,
        "tile_N": how.columns,
        "pingpong": how.pingpong,
        "max_swizzle_size": how.bands,
        **across,
    }
