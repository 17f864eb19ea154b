"""Clipping of gradients by their common norm."""

from collections.abc import Iterable

import torch
from torch import Tensor


def clip_gradients(parameters: Iterable[Tensor], limit: float) -> Tensor:
    """Scale all gradients so that their joint L2 norm is at most `limit`; returns the norm before (0-d, no sync).

    Clips what it is given: with several ranks, call it after their gradients were averaged (the
    records clip before, a different factor on each rank; training catalogue §3.4).
    """
    return torch.nn.utils.clip_grad_norm_(parameters, limit, foreach=True)
