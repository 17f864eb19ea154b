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
    attached: Tensor | None = None
    """The same costs with the graph that made them, where `score` was asked to keep it: learning from what was
    scored needs no second forward pass. The record is `nats`; it is a copy."""


def score(forward: Forward, batch: Batch, positions: Tensor, counted: Tensor, *, attach: bool = False) -> Scored:
    """Run the model on `batch` and put the cost of every target on record."""
    with torch.set_grad_enabled(attach):
        nats = forward(batch)
    return Scored(batch, positions, counted, nats.detach(), nats if attach else None)
