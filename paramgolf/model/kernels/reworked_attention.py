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
from paramgolf.model.kernels.gpu.flash4_sums import SumsTiling, flash4_sums_fit
from paramgolf.model.kernels.own_value import own_value
from paramgolf.model.kernels.query_key import query_key

SUMS_TILING = SumsTiling()
SUMS_WIDTH = 64
"""Channels of a head; `SUMS_TILING` and the way its sums lie are of it."""


class PaddedDocuments(NamedTuple):
    """The documents of a batch as attention's kernels are told them."""

    edges: Tensor
    """(S + 1,) int32 offsets."""
    slots: Tensor
    """(T,) int32, `document_slots`."""
    longest: int


# Not cached: the compiler of torch 2.11 looks through a cache and stops at what it finds there.
@torch.compiler.assume_constant_result
def attention_sums_run() -> bool:
    """Whether attention can go this way here; its heads must be `SUMS_WIDTH` wide."""
    return torch.cuda.is_available() and flash4_sums_fit()


def document_slots(edges: Tensor, tokens: int, rows: int = SUMS_TILING.rows) -> Tensor:
    """(S + 1,) int32 offsets -> (T,) int32: 64 times the padded row of each token, plus how many of its 64 are used.

    Plus nothing where all are. As FlashAttention-4 pads: document i begins at the multiple of `rows` at or below its
    offset + i · rows.
    """
    place = torch.arange(tokens, device=edges.device, dtype=torch.int32)
    document = torch.searchsorted(edges, place, right=True, out_int32=True) - 1
    start, end = edges[document], edges[document + 1]
    inside = place - start
    slot = (start + document * rows) // rows * rows + inside
    left = end - start - inside // 64 * 64
    return 64 * slot + torch.where(left < 64, left, 0)


def padded_rows(edges: Tensor, tokens: int, rows: int = SUMS_TILING.rows) -> int:
    """How many rows hold all slots."""
    return (tokens + edges.shape[0] * rows - 1) // rows * rows


@library.custom_op("paramgolf::reworked_gradient", mutates_args=())
def reworked_gradient(
    wide: Tensor, turn: list[Tensor], kept: list[Tensor], gradient: Tensor, documents: list[Tensor], gate: list[float]
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of `wide`, the queries' gain and the gate's logits.

    `turn` is cos, sin and gain; `kept` q, k, y, its log sums and logits; `documents` offsets and slots; `gate`
    sharpness and height.
    """
    from paramgolf.model.kernels.gpu.flash4_sums import run_flash4_sums
    from paramgolf.model.kernels.gpu.own_value_rows import run_own_value_readied
    from paramgolf.model.kernels.gpu.query_key_rows import run_query_key_backward

    (q, k, y, log_sums, logits), (edges, slots), (cos, sin, gain) = kept, documents, turn
    (tokens, _, width), kv = q.shape, k.shape[1]
    v, padded = values_of(wide, kv, width), padded_rows(edges, tokens)
    made, stats, sums = run_own_value_readied((y, v, logits, gradient), log_sums, slots, padded, *gate)
    dy, dtap, dlogits = made
    dk, dv = run_flash4_sums(q, k, v, dy, stats, sums, edges, SUMS_TILING)
    dwide, dgain = run_query_key_backward(wide, [sums, dk, dv, dtap], cos, sin, gain, kv, tokens, slots)
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
        (edges, slots, longest), (kv, *gate) = documents, how
        q, k = query_key(wide, *angles, gain, kv, wide.shape[0])
        v = values_of(wide, kv, q.shape[2])
        y, log_sums = flash4_forward(q, k, v, edges, longest, 0)
        ctx.save_for_backward(wide, *angles, gain, q, k, y, log_sums, logits, edges, slots)
        ctx.gate = gate
        return own_value(y, v, logits, *gate)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of the wide product, the gain and the logits."""
        wide, cos, sin, gain, q, k, y, log_sums, logits, edges, slots = ctx.saved_tensors
        dwide, dgain, dlogits = reworked_gradient(
            wide, [cos, sin, gain], [q, k, y, log_sums, logits], gradients[0].contiguous(), [edges, slots], [*ctx.gate]
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
