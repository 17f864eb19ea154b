"""FlashAttention-4's backward kernel for Hopper alone, without the passes that the library runs before and after it.

What it reads of each query, and the sums that it adds the queries' gradients to, come ready from the kernel before
(`run_own_value_readied`); the kernel after reads the sums as they lie (`fragment_place`). Query heads that share keys
go in one launch, and keys and values get a gradient from each. Private parts of the library are used, of `READ_IN`.
"""

from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NamedTuple

import torch
from torch import Tensor

READ_IN = "4.0.0b36"
"""The version of flash-attn-4 whose source this follows; with another, attention goes the public way."""


class SumsTiling(NamedTuple):
    """How the library's kernel is cut; its own choice for heads of 64.

    Sums lie as `fragment_place` has them where each group of warps that adds to them has rows of its own: two groups
    for tiles of 128 rows, or one.
    """

    rows: int = 128
    """Of queries; each document begins at a multiple of them in what is padded."""
    keys: int = 128
    stages: int = 2
    """Tiles of queries on their way."""
    scores: int = 2
    """Tiles of scores' gradients kept; `stages` or one."""
    swapped: bool = True
    """Scores are keys by queries; else queries by keys."""
    split: int = 1
    """Parts of the rows that the groups of warps share out for scores."""
    one_adds: bool = False
    """One of two groups of warps makes the queries' gradients."""
    groups: int = 2
    """Groups of warps that multiply."""
    blocks: int = 1
    """How many blocks a multiprocessor is to hold at once; more than one take turns like the groups of one."""
    registers: tuple[int, int] = (216, 40)
    """Of a thread that multiplies and of one that loads, where `blocks` is more than one."""
    together: bool = False
    """Query heads that share a key head go through one block, which adds their keys' gradients up."""


class Crowded(NamedTuple):
    """A kernel of which a multiprocessor is to hold several blocks."""

    made: Any
    blocks: int

    def launch(self, **how: Any) -> Any:
        """As asked, but for the number of blocks."""
        return self.made.launch(**{**how, "min_blocks_per_mp": self.blocks})


@cache
def flash4_sums_fit() -> bool:
    """Whether the library is there in the version read, and the GPU a Hopper."""
    try:
        found = version("flash-attn-4")
    except PackageNotFoundError:
        return False
    return found == READ_IN and torch.cuda.get_device_capability()[0] == 9


@cache
def backward_operation(together: bool) -> Any:
    """The library's kernel, where query heads of a group read one key head and each has gradients of its own.

    Or where a block takes all of them, `together`.
    """
    from flash_attn.cute.flash_bwd_sm90 import FlashAttentionBackwardSm90

    class GradientsApart(FlashAttentionBackwardSm90):
        """One head a block."""

        def load(self, *given: Any) -> None:
            # Where it loads, the kernel asks how many heads share a key head; where it stores, it is told one.
            self.qhead_per_kvhead = self.groups
            FlashAttentionBackwardSm90.load(self, *given[:-1], self.groups)
            self.qhead_per_kvhead = 1

    base: Any = GradientsApart
    if together:
        from paramgolf.model.kernels.gpu.flash4_shared import HeadsTogether

        base = HeadsTogether

    class CutAsAsked(base):  # type: ignore[misc]
        """The kernel for a number of heads that share keys, with a `SumsTiling`."""

        groups, how = 1, SumsTiling()

        def kernel(self, *given: Any) -> Any:
            made = FlashAttentionBackwardSm90.kernel
            if self.how.blocks == 1:
                return made(self, *given)
            self.num_mma_regs_wg0, self.num_producer_regs = self.how.registers
            return Crowded(made(self, *given), self.how.blocks)

    return CutAsAsked


@cache
def flash4_sums_kernel(width: int, groups: int, how: SumsTiling) -> Any:
    """The kernel compiled for any number of heads, tokens and documents."""
    from cutlass import BFloat16, Float32, Int32, cute
    from flash_attn.cute.utils import AuxData
    from quack.compile_utils import make_fake_tensor

    def heads_of() -> Any:
        return make_fake_tensor(BFloat16, (tokens, cute.sym_int(), cute.sym_int()), divisibility=8)

    def numbers(size: Any) -> Any:
        return make_fake_tensor(Float32, (cute.sym_int(), size), divisibility=4)

    tokens, padded = cute.sym_int(), cute.sym_int()
    q, k, v, dy, dk, dv = (heads_of() for _ in range(6))
    log_sums, inner, sums = numbers(padded), numbers(padded), numbers(cute.sym_int())
    edges = make_fake_tensor(Int32, (cute.sym_int(),), divisibility=1)
    operation = backward_operation(how.together)(
        BFloat16, width, width, 1, True, False, False, how.rows, how.keys, how.stages, how.stages, how.scores,
        how.swapped, False, False, how.split, how.groups, 1 if how.one_adds else how.groups, 128 * (how.groups + 1),
        dQ_single_wg=how.one_adds,
    )  # fmt: skip
    operation.groups, operation.how = groups, how
    given = (q, k, v, dy, log_sums, inner, sums, dk, dv, width**-0.5, edges, edges)
    stream = cute.runtime.make_fake_stream(use_tvm_ffi_env_stream=True)
    rest = (None,) * 7
    return cute.compile(operation, *given, *rest, AuxData(None, None), None, None, stream, options="--enable-tvm-ffi")


def run_flash4_sums(  # noqa: PLR0913
    q: Tensor, k: Tensor, v: Tensor, dy: Tensor, stats: Tensor, sums: Tensor, edges: Tensor, how: SumsTiling
) -> tuple[Tensor, Tensor]:
    """Adds to `sums` what `q` (T, H, E) is to get; gradients of `k` and `v` (T, K, E), (T, K, groups, E).

    Of each query head one, or one of all that go `together`.
    `stats` (2, H, padded) are log2 sums of exponentials and dy·y of each query, `edges` the documents.
    """
    from flash_attn.cute.utils import AuxData

    (tokens, heads, width), kv = q.shape, k.shape[1]
    scale, kernel = width**-0.5, flash4_sums_kernel(width, heads // kv, how)
    log_sums, inner = stats
    if how.together:
        q, dy = (tensor.view(tokens, kv, -1) for tensor in (q, dy))
        log_sums, inner, sums = (tensor.view(kv, -1) for tensor in (log_sums, inner, sums))
    dk, dv = (k.new_empty(tokens, kv if how.together else heads, width) for _ in range(2))
    given = (q, k, v, dy, log_sums, inner, sums, dk, dv, scale, edges, edges)
    kernel(*given, *(None,) * 7, AuxData(None, None), None, None)
    return dk.view(tokens, kv, -1, width), dv.view(tokens, kv, -1, width)
