"""Attention over documents with all that surrounds it as one function: from the wide product to gated heads.

Forward it is `queries_keys_values`, FlashAttention-4 and `without_own_value` one after another. Backward their kernels
hand each other what the library would make in passes of its own: the kernel of own values and gates leaves the
statistics of each query and clears the sums, FlashAttention-4's kernel adds to them, and the kernel of queries and keys
reads them. Saves reading y and its gradient again, and a conversion of the sums, about six tensors of (T, H, E) bf16.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, library

from paramgolf.model.kernels.flash4 import flash4_forward
from paramgolf.model.kernels.gpu.flash4_sums import TILE_ROWS, flash4_sums_fit
from paramgolf.model.kernels.own_value import own_value
from paramgolf.model.kernels.query_key import query_key

SUMS_WIDTH = 64
"""Channels of a head; the cut of attention's kernel and the way its sums lie are of it."""
SUMS_TURN = 16
"""Fewest channels that rotate: sums are read eight channels at a time, and a pair's partners apart."""


class PaddedDocuments(NamedTuple):
    """The documents of a batch as attention's kernels are told them."""

    edges: Tensor
    """(S + 1,) int32 offsets."""
    blocks: Tensor
    """(padded / 64,) int32, `document_blocks`."""
    longest: int


# Not cached: the compiler of torch 2.11 looks through a cache and stops at what it finds there.
@torch.compiler.assume_constant_result
def attention_sums_run() -> bool:
    """Whether attention can go this way here; its heads must be `SUMS_WIDTH` wide."""
    return torch.cuda.is_available() and flash4_sums_fit()


def document_blocks(edges: Tensor, tokens: int) -> Tensor:
    """(S + 1,) int32 offsets -> (blocks,) int32: of each 64 padded rows 128 times the first token, plus how many.

    As FlashAttention-4 pads: document i begins at the multiple of `TILE_ROWS` at or below its offset + i · TILE_ROWS.
    """
    count = torch.arange(edges.shape[0] - 1, device=edges.device, dtype=torch.int32)
    begins = (edges[:-1] + count * TILE_ROWS) // TILE_ROWS * TILE_ROWS
    padded = (tokens + edges.shape[0] * TILE_ROWS - 1) // TILE_ROWS * TILE_ROWS
    row = torch.arange(0, padded, 64, device=edges.device, dtype=torch.int32)
    # Compared with all, not searched for: the compiler makes one kernel of it.
    document = (begins <= row[:, None]).sum(1) - 1
    first = edges[document] + row - begins[document]
    used = (edges[document + 1] - first).clamp(0, 64)
    return torch.where(used > 0, 128 * first + used, 0)


@library.custom_op("paramgolf::reworked_gradient", mutates_args=())
def reworked_gradient(
    wide: Tensor, turn: list[Tensor], kept: list[Tensor], gradient: Tensor, documents: list[Tensor], gate: list[float]
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of `wide`, the queries' gain and the gate's logits.

    `turn` is cos, sin and gain; `kept` q, k, y, its log sums and logits; `documents` offsets and blocks; `gate`
    sharpness and height.
    """
    from paramgolf.model.kernels.gpu.flash4_sums import run_flash4_sums
    from paramgolf.model.kernels.gpu.own_value_rows import run_own_value_readied
    from paramgolf.model.kernels.gpu.query_key_rows import run_query_key_backward

    (q, k, y, log_sums, logits), (edges, blocks), (cos, sin, gain) = kept, documents, turn
    (tokens, _, width), kv = q.shape, k.shape[1]
    v = values_of(wide, kv, width)
    made, stats, sums = run_own_value_readied((y, v, logits, gradient), log_sums, blocks, *gate)
    dy, dtap, dlogits = made
    dk, dv = run_flash4_sums(q, k, v, dy, stats, sums, edges)
    dwide, dgain = run_query_key_backward(wide, [sums, dk, dv, dtap], cos, sin, gain, kv, tokens, blocks=blocks)
    return dwide, dgain, dlogits


@reworked_gradient.register_fake
def reworked_gradient_shapes(
    wide: Tensor, turn: list[Tensor], kept: list[Tensor], gradient: Tensor, documents: list[Tensor], gate: list[float]
) -> tuple[Tensor, Tensor, Tensor]:
    """Shapes of the backward pass."""
    return torch.empty_like(wide), torch.empty_like(turn[2]), torch.empty_like(kept[4])


def values_of(wide: Tensor, kv: int, width: int) -> Tensor:
    """The values (T, K, E) where the wide product (T, (H + 2K)·E) has put them."""
    return wide.unflatten(1, (-1, width))[:, -kv:]


class ReworkedAttention(torch.autograd.Function):
    """The operators as one differentiable function."""

    @staticmethod
    def forward(
        ctx: Any,
        wide: Tensor,
        gain: Tensor,
        logits: Tensor,
        angles: tuple[Tensor, Tensor],
        documents: PaddedDocuments,
        how: tuple[int, float, float],
    ) -> Tensor:
        """Keeps what the backward pass reads again; `how` are key heads, sharpness and height."""
        (edges, blocks, longest), (kv, *gate) = documents, how
        q, k = query_key(wide, *angles, gain, kv, wide.shape[0])
        v = values_of(wide, kv, q.shape[2])
        y, log_sums = flash4_forward(q, k, v, edges, longest, 0)
        ctx.save_for_backward(wide, *angles, gain, q, k, y, log_sums, logits, edges, blocks)
        ctx.gate = gate
        return own_value(y, v, logits, *gate)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of the wide product, the gain and the logits."""
        wide, cos, sin, gain, q, k, y, log_sums, logits, edges, blocks = ctx.saved_tensors
        dwide, dgain, dlogits = reworked_gradient(
            wide, [cos, sin, gain], [q, k, y, log_sums, logits], gradients[0].contiguous(), [edges, blocks], [*ctx.gate]
        )
        return dwide, dgain, dlogits, None, None, None


def reworked_attention(
    wide: Tensor,
    turn: tuple[Tensor, Tensor, Tensor],
    logits: Tensor,
    kv: int,
    documents: PaddedDocuments,
    gate: tuple[float, float],
) -> Tensor:
    """wide (1, T, (H + 2K)·64) and logits (1, T, H) bf16 on a GPU -> (1, T, H·64).

    `turn` is cos, sin and the queries' gain, `gate` sharpness and height. Every query sees all before it in its
    document.
    """
    cos, sin, gain = turn
    rows, heads = wide.flatten(0, 1), logits.flatten(0, 1).contiguous()
    y = ReworkedAttention.apply(rows, gain, heads, (cos, sin), documents, (kv, *gate))
    return y.flatten(1).unflatten(0, wide.shape[:2])
