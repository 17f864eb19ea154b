"""Causal attention behind one function: FlashAttention-3 and -4, SDPA, varlen, FlexAttention or plain mathematics.

A backend is planned once a forward pass (`plan`) and used by every layer (`attend`), so that masks are built once.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from typing import Any, Literal, NamedTuple, Protocol, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from paramgolf.batch import Batch
from paramgolf.errors import UsageError
from paramgolf.model.kernels.flash4 import flash4_attention, flash4_present
from paramgolf.model.kernels.reworked_attention import PaddedDocuments, attention_sums_run, document_blocks
from paramgolf.model.masks import block_mask, dense_mask

Backend = Literal["auto", "fa3", "fa4", "cudnn", "flash", "varlen", "flex", "sdpa", "plain"]
"""`auto` takes the fastest present for the device and the batch."""


class HowToAttend(Protocol):
    """What a forward pass asks of a plan of attention, the model's own or one that came with the batch."""

    @property
    def places(self) -> Tensor | None:
        """(B, T) position of each token for rotations; None: every row counts from 0."""
        ...

    def within(self, window: int) -> "HowToAttend":
        """The plan for a layer whose queries see `window` tokens; 0: no limit."""
        ...

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """(B, T, H, E), (B, T, K, E), (B, T, K, E) -> (B, T, H, E)."""
        ...


class AttentionPlan(NamedTuple):
    """How this forward pass attends."""

    backend: str
    batch: Batch
    mask: Any = None
    """Dense (1, 1, T, T) bool for `sdpa` and `plain`, a BlockMask for `flex`, else None."""
    window: int = 0
    """How many tokens a query sees, itself included; 0: all before it."""
    masks: Mapping[int, Any] = {}
    """The mask for every window of the model, built once a pass."""
    places: Tensor | None = None
    """(B, T) position of each token for rotations; None: every row counts from 0."""
    blocks: Tensor | None = None
    """`document_blocks`, for `reworked_attention`."""

    @property
    def documents(self) -> PaddedDocuments | None:
        """What `reworked_attention` is to be told, where it may take the place of `attend`."""
        edges = self.batch.cu_seqlens
        if self.blocks is None or edges is None or self.window:
            return None
        return PaddedDocuments(edges, self.blocks, self.batch.max_seqlen)

    @property
    def takes_spread(self) -> bool:
        """Whether `attend` takes keys and values once for every query head (`spread_heads`), and gains by it.

        Measured for packed documents; whole rows go to cuDNN.
        """
        return self.backend == "fa4" and self.batch.cu_seqlens is not None

    def within(self, window: int) -> "AttentionPlan":
        """The plan for a layer whose queries see `window` tokens."""
        return self if window == self.window else self._replace(mask=self.masks[window], window=window)

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attention as planned."""
        return KERNELS[self.backend](q, k, v, self)


@torch.compiler.assume_constant_result
@cache
def flash3() -> Any:
    """The FlashAttention-3 module when it is installed, else None."""
    if find_spec("flash_attn_interface") is None:
        return None
    import flash_attn_interface

    return flash_attn_interface


@cache
def present(device: str) -> tuple[str, ...]:
    """Backends that run on `device` ("cpu", "cuda", "mps")."""
    found = ["plain", "sdpa"]
    if device == "mps":
        return tuple(found)
    found.append("flex")
    if device == "cuda":
        major, _ = torch.cuda.get_device_capability()
        found += ["flash"] if major >= 8 else []
        found += ["cudnn"] if major >= 9 and torch.backends.cudnn.is_available() else []
        found += ["varlen"] if major >= 8 and find_spec("torch.nn.attention.varlen") is not None else []
        found += ["fa3"] if major == 9 and flash3() is not None else []
        found += ["fa4"] if major in (9, 10) and flash4_present() else []
    return tuple(found)


@torch.compiler.assume_constant_result
def choose(backend: str, device: str, *, packed: bool, windowed: bool = False) -> str:
    """The backend that will run. Raises `UsageError` when the one asked for cannot.

    Preference as measured on one H100 (docs/SPEED.md): FA3, then cuDNN for whole rows and FlexAttention for packed
    documents, whose block mask skips what a document does not see.
    """
    able = [name for name in present(device) if takes(name, packed=packed, windowed=windowed)]
    if backend == "auto":
        return next(name for name in preferred(device, packed=packed, windowed=windowed) if name in able)
    if backend not in able:
        kind = ("packed documents" if packed else "whole rows") + (" in windows" if windowed else "")
        raise UsageError(f"attention backend {backend!r} cannot do {kind} on {device}", evidence=f"able: {able}")
    return backend


def preferred(device: str, *, packed: bool, windowed: bool = False) -> tuple[str, ...]:
    """Backends from fastest to slowest."""
    if device != "cuda":
        return ("sdpa",)
    if windowed:
        return ("fa3", "fa4", "flex", "sdpa")
    return ("fa3", "fa4", "flex", "varlen", "sdpa") if packed else ("fa3", "cudnn", "fa4", "flash", "sdpa")


def takes(backend: str, *, packed: bool, windowed: bool = False) -> bool:
    """Whether a backend can confine attention to documents (`packed`) and windows, or needs documents (`varlen`)."""
    if windowed and backend not in WINDOWED:
        return False
    return backend not in ("cudnn", "flash") if packed else backend != "varlen"


def plan(backend: str, batch: Batch, windows: Sequence[int] = (0,)) -> HowToAttend:
    """Choose the backend for `batch` and build its masks once, one for each of `windows` (tokens; 0: no limit)."""
    if batch.plan is not None:
        return cast(HowToAttend, batch.plan)
    device = batch.ids.device.type
    chosen = choose(backend, device, packed=batch.cu_seqlens is not None, windowed=any(windows))
    masks = {window: mask_for(chosen, batch, window) for window in dict.fromkeys(windows)}
    edges = batch.cu_seqlens
    padded = edges is not None and chosen == "fa4" and attention_sums_run()
    blocks = document_blocks(edges, batch.ids.shape[1]) if edges is not None and padded else None
    return AttentionPlan(chosen, batch, masks[windows[0]], windows[0], masks, blocks=blocks)


def mask_for(backend: str, batch: Batch, window: int) -> Any:
    """What `backend` needs to be told beside `batch` and `window`, or None."""
    if backend == "flex":
        return block_mask(batch, window)
    if backend in ("sdpa", "plain") and (batch.cu_seqlens is not None or window):
        return dense_mask(batch.segments(), window)
    return None


def attend(q: Tensor, k: Tensor, v: Tensor, how: HowToAttend) -> Tensor:
    """Causal softmax attention, scale 1/sqrt(E): q (B, T, H, E), k and v (B, T, K, E) -> (B, T, H, E)."""
    return how.attend(q, k, v)


def plain_attention(q: Tensor, k: Tensor, v: Tensor, how: AttentionPlan) -> Tensor:
    """The definition, in fp32: what every other backend is tested against."""
    mask = dense_mask(torch.zeros_like(how.batch.ids)) if how.mask is None else how.mask
    groups = q.shape[2] // k.shape[2]
    k, v = (x.repeat_interleave(groups, dim=2).transpose(1, 2).float() for x in (k, v))
    scores = q.transpose(1, 2).float() @ k.mT / q.shape[-1] ** 0.5
    weights = scores.masked_fill(~mask, float("-inf")).softmax(-1)
    return (weights @ v).transpose(1, 2).to(q.dtype)


def sdpa_attention(q: Tensor, k: Tensor, v: Tensor, how: AttentionPlan) -> Tensor:
    """`scaled_dot_product_attention`, the kernel left to torch."""
    y = F.scaled_dot_product_attention(
        q.transpose(1, 2),
        k.transpose(1, 2),
        v.transpose(1, 2),
        attn_mask=how.mask,
        is_causal=how.mask is None,
        enable_gqa=q.shape[2] != k.shape[2],
    )
    return y.transpose(1, 2)


def cudnn_attention(q: Tensor, k: Tensor, v: Tensor, how: AttentionPlan) -> Tensor:
    """SDPA pinned to cuDNN."""
    with sdpa_kernel(SDPBackend.CUDNN_ATTENTION):
        return sdpa_attention(q, k, v, how)


def flash_attention(q: Tensor, k: Tensor, v: Tensor, how: AttentionPlan) -> Tensor:
    """SDPA pinned to FlashAttention-2."""
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        return sdpa_attention(q, k, v, how)


def flex_core(q: Tensor, k: Tensor, v: Tensor, how: AttentionPlan) -> Tensor:
    """FlexAttention with the planned block mask. On the CPU it has no gradient: `UsageError`."""
    if q.device.type == "cpu" and q.requires_grad:
        raise UsageError("attention backend 'flex' cannot train on the CPU", fix="--set model.backend=auto")
    from torch.nn.attention.flex_attention import flex_attention

    y: Any = flex_attention(
        q.transpose(1, 2),
        k.transpose(1, 2),
        v.transpose(1, 2),
        block_mask=how.mask,
        enable_gqa=q.shape[2] != k.shape[2],
    )
    return y.transpose(1, 2)


def varlen_attention(q: Tensor, k: Tensor, v: Tensor, how: AttentionPlan) -> Tensor:
    """torch's own variable-length attention (FlashAttention-2 underneath)."""
    from torch.nn.attention.varlen import varlen_attn

    groups = q.shape[2] // k.shape[2]
    k, v = (x[0].repeat_interleave(groups, dim=1) for x in (k, v))
    edges: Any = how.batch.cu_seqlens
    longest = how.batch.max_seqlen
    y: Any = varlen_attn(q[0], k, v, edges, edges, longest, longest, **causal_argument())
    return y[None]


@torch.compiler.assume_constant_result
@cache
def causal_argument() -> dict[str, Any]:
    """`varlen_attn` names causality differently from torch 2.11 on."""
    import inspect

    from torch.nn.attention.varlen import varlen_attn

    return (
        {"window_size": (-1, 0)} if "window_size" in inspect.signature(varlen_attn).parameters else {"is_causal": True}
    )


def fa3_attention(q: Tensor, k: Tensor, v: Tensor, how: AttentionPlan) -> Tensor:
    """FlashAttention-3 of Dao-AILab, Hopper only."""
    edges, longest = how.batch.cu_seqlens, how.batch.max_seqlen
    window = (how.window - 1, 0) if how.window else (-1, -1)
    if edges is None:
        return flash3().flash_attn_func(q, k, v, causal=True, window_size=window)
    y = flash3().flash_attn_varlen_func(
        q[0], k[0], v[0], edges, edges, longest, longest, causal=True, window_size=window
    )
    return y[None]


def fa4_attention(q: Tensor, k: Tensor, v: Tensor, how: AttentionPlan) -> Tensor:
    """FlashAttention-4 of Dao-AILab."""
    return flash4_attention(q, k, v, how.batch.cu_seqlens, how.batch.max_seqlen, how.window)


WINDOWED = ("fa3", "fa4", "flex", "sdpa", "plain")
"""Backends that can limit how far back a query looks."""


KERNELS: dict[str, Callable[[Tensor, Tensor, Tensor, AttentionPlan], Tensor]] = {
    "fa3": fa3_attention,
    "fa4": fa4_attention,
    "cudnn": cudnn_attention,
    "flash": flash_attention,
    "varlen": varlen_attention,
    "flex": flex_core,
    "sdpa": sdpa_attention,
    "plain": plain_attention,
}
