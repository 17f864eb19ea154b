"""FlashAttention-4's backward kernel for Hopper alone, without the passes that the library runs before and after it.

What it reads of each query, and the sums that it adds the queries' gradients to, come ready from the kernel before
(`run_own_value_readied`); the kernel after reads the sums as they lie (`flash4_layout`). Query heads that share keys go
through one block (`HeadsTogether`). Private parts of the library are used, of `READ_IN`.
"""

from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
from torch import Tensor

READ_IN = "4.0.0b36"
"""The version of flash-attn-4 whose source this follows; with another, attention goes the public way."""
TILE_ROWS = 128
"""Of queries: each document begins at a multiple of them in what is padded."""


@cache
def flash4_sums_fit() -> bool:
    """Whether the library is there in the version read, and the GPU a Hopper."""
    try:
        found = version("flash-attn-4")
    except PackageNotFoundError:
        return False
    return found == READ_IN and torch.cuda.get_device_capability()[0] == 9


@cache
def flash4_sums_kernel(width: int, groups: int) -> Any:
    """The kernel compiled for any number of heads, tokens and documents; cut as the library cuts it for heads of 64."""
    from cutlass import BFloat16, Float32, Int32, cute
    from flash_attn.cute.utils import AuxData
    from quack.compile_utils import make_fake_tensor

    from paramgolf.model.kernels.gpu.flash4_shared import HeadsTogether

    def heads_of() -> Any:
        return make_fake_tensor(BFloat16, (tokens, cute.sym_int(), cute.sym_int()), divisibility=8)

    def numbers(size: Any) -> Any:
        return make_fake_tensor(Float32, (cute.sym_int(), size), divisibility=4)

    tokens, padded = cute.sym_int(), cute.sym_int()
    q, k, v, dy, dk, dv = (heads_of() for _ in range(6))
    log_sums, inner, sums = numbers(padded), numbers(padded), numbers(cute.sym_int())
    edges = make_fake_tensor(Int32, (cute.sym_int(),), divisibility=1)
    # Of a module that mypy does not read, from a library that need not be there.
    operation: Any = HeadsTogether(
        BFloat16, width, width, 1, True, tile_m=TILE_ROWS, tile_n=128, SdP_swapAB=True, AtomLayoutMSdP=1,
        AtomLayoutNdKV=2, AtomLayoutMdQ=2, num_threads=384,
    )  # fmt: skip
    operation.groups = groups
    given = (q, k, v, dy, log_sums, inner, sums, dk, dv, width**-0.5, edges, edges)
    stream = cute.runtime.make_fake_stream(use_tvm_ffi_env_stream=True)
    rest = (None,) * 7
    return cute.compile(operation, *given, *rest, AuxData(None, None), None, None, stream, options="--enable-tvm-ffi")


def run_flash4_sums(
    q: Tensor, k: Tensor, v: Tensor, dy: Tensor, stats: Tensor, sums: Tensor, edges: Tensor
) -> tuple[Tensor, Tensor]:
    """Adds to `sums` (H, padded · E) what `q` (T, H, E) is to get; gradients of `k` and `v`, each (T, K, E).

    `stats` (2, H, padded) are log2 sums of exponentials and dy·y of each query, `edges` the documents.
    """
    from flash_attn.cute.utils import AuxData

    (tokens, heads, width), kv = q.shape, k.shape[1]
    q, dy = (tensor.view(tokens, kv, -1) for tensor in (q, dy))
    log_sums, inner, sums = (tensor.view(kv, -1) for tensor in (*stats, sums))
    dk, dv = (k.new_empty(tokens, kv, width) for _ in range(2))
    given = (q, k, v, dy, log_sums, inner, sums, dk, dv, width**-0.5, edges, edges)
    flash4_sums_kernel(width, heads // kv)(*given, *(None,) * 7, AuxData(None, None), None, None)
    return dk, dv
