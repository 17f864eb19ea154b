"""Scoring: the cost of each target, on record before anything may learn from it."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from paramgolf.batch import Batch

Forward = Callable[[Batch], Tensor]
"""A model as scoring sees it: batch -> (B, T) fp32 nats of each target."""


@dataclass(frozen=True)
class Scored:
    """Rows whose targets have their cost on record. Only `score` makes one; adaptation accepts nothing else."""

    batch: Batch
    positions: Tensor
    """(B, T) int64 place of each target in the stream, targets being numbered from 0."""
    counted: Tensor
    """(B, T) bool: targets whose cost counts here; the others are context or padding."""
    nats: Tensor
    """(B, T) fp32."""


@torch.no_grad()
def score(forward: Forward, batch: Batch, positions: Tensor, counted: Tensor) -> Scored:
    """Run the model on `batch` and put the cost of every target on record."""
    return Scored(batch, positions, counted, forward(batch))
