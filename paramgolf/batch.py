"""The small value that carries tokens from the loaders to the model.

Shapes: B rows, T tokens a row, S document segments.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

BOS = 1
"""Every tokenizer of the challenge opens a document with this id (data catalogue D1)."""


class Batch(NamedTuple):
    """Token ids and what follows each of them."""

    ids: Tensor
    """(B, T) integer token ids."""
    targets: Tensor
    """(B, T) integer ids, `targets[b, t]` being the token after `ids[b, t]`."""
    cu_seqlens: Tensor | None = None
    """(S + 1,) int32 offsets of segments that attention may not cross; needs B = 1. Padded at the
    end with T, so that the shape is one of few. None: attention sees the whole row."""
    max_seqlen: int = 0
    """Upper bound on the length of a segment; only read beside `cu_seqlens`."""
    plan: Any = None
    """How attention goes where the caller has decided (a `HowToAttend`); None: as the model plans."""

    def to(self, device: torch.device) -> "Batch":
        """The same batch on `device`, ids as int64."""
        cu_seqlens = None if self.cu_seqlens is None else sent_to(device, self.cu_seqlens)
        return Batch(
            sent_to(device, self.ids).long(),
            sent_to(device, self.targets).long(),
            cu_seqlens,
            self.max_seqlen,
        )

    def continues(self) -> Tensor:
        """(B, T) bool: the token has a predecessor in its row and in its own document."""
        inside = self.ids != BOS
        inside[:, 0] = False
        return inside

    def segments(self) -> Tensor:
        """(B, T) int64: which segment each token lies in; all zero without `cu_seqlens`."""
        if self.cu_seqlens is None:
            return torch.zeros_like(self.ids)
        place = torch.arange(self.ids.shape[1], device=self.ids.device, dtype=torch.int32)
        return (torch.searchsorted(self.cu_seqlens, place, right=True) - 1).expand_as(self.ids)


def sent_to(device: torch.device, tensor: Tensor) -> Tensor:
    """`tensor` on `device`, without waiting for it.

    To a GPU by way of pinned memory: before a copy from any other the driver waits for all work asked of the device,
    which then stands still until the host has caught up.
    """
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)
