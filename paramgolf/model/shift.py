"""What the token before left, inside the same document."""

import torch
import torch.nn.functional as F
from torch import Tensor

from paramgolf.batch import Batch


def preceding(x: Tensor, batch: Batch, otherwise: Tensor | float = 0.0) -> Tensor:
    """(B, T, ...) -> the same one token later; `otherwise` where a row or a document starts."""
    inside = batch.continues().view(*x.shape[:2], *(1 for _ in x.shape[2:]))
    return torch.where(inside, one_later(x), otherwise)


def one_later(x: Tensor) -> Tensor:
    """(B, T, ...) -> the same moved one token on, zero in front, documents not heeded."""
    return F.pad(x, (0, 0) * (x.ndim - 2) + (1, -1))
