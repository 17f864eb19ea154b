"""The slot of the evaluation stage: how a stream is cut into what the model sees."""

from collections.abc import Iterator
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from paramgolf.evaluate.score import Forward, Scored


class Bench(NamedTuple):
    """What a protocol scores with."""

    forward: Forward
    tokens: Tensor
    """(N,) int64 ids of the whole split, on the CPU; token i + 1 is target number i."""
    context: int
    """Row length the model takes, tokens."""
    device: torch.device
    batch_tokens: int
    """How many tokens one forward pass may hold."""
    rank: int = 0
    world: int = 1
    """This process scores every `world`-th batch, from `rank` on."""


class EvaluationProtocol(Protocol):
    """`evaluate.protocol`: yields scored rows; over all ranks every target is counted exactly once."""

    def __call__(self, bench: Bench) -> Iterator[Scored]: ...
