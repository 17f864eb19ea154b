"""Clipping of gradients by their common norm."""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor


class Clipping(NamedTuple):
    """What clipping asks, as 0-d tensors: nothing waits for the device."""

    norm: Tensor
    """Joint L2 norm of all gradients before."""
    kept: Tensor
    """What every gradient is to be multiplied by, at most 1."""


def clipping(parameters: Iterable[Tensor], limit: float) -> Clipping:
    """How to bring the joint norm of the gradients to at most `limit`; they stay as they are.

    As `torch.nn.utils.clip_grad_norm_` does, but for the pass over all gradients: whoever reads one multiplies it.
    Clips what it is given: with several ranks, call it after their gradients were averaged (the records clip before, a
    different factor on each rank; training catalogue §3.4).
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients, foreach=True)
    return Clipping(norm, torch.clamp(limit / (norm + 1e-6), max=1.0))
