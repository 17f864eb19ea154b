"""The slots of the evaluation stage: how a stream is cut into what the model sees, and what reworks its logits."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from paramgolf.batch import Batch
from paramgolf.errors import UsageError
from paramgolf.evaluate.score import Forward, Scored, score


class LanguageModel(Protocol):
    """What protocols that adapt ask of a model; its forward pass is `nats(hidden(batch), batch.targets)`."""

    def hidden(self, batch: Batch) -> Tensor:
        """(B, T, D): what the head reads."""
        ...

    def logits(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, V) fp32."""
        ...

    def nats(self, x: Tensor, targets: Tensor) -> Tensor:
        """(B, T, D), (B, T) -> (B, T) fp32 cost of each target."""
        ...

    def modules(self) -> Iterator[nn.Module]:
        """Every module of it."""
        ...

    def parameters(self) -> Iterator[nn.Parameter]:
        """Every weight of it, once."""
        ...


LogitRework = Callable[[Tensor, Tensor], Tensor]
"""(B, T, V) fp32 logits and (B, T) places of their targets in the stream -> logits of a distribution over all V."""


class OnLogits(Protocol):
    """`evaluate.on_logits`: reworks the logits of a target by a function of what stands before it in the stream."""

    def prepare(self, tokens: Tensor, device: torch.device) -> LogitRework:
        """Read the (N,) stream once. What it says of a target may depend on earlier tokens alone."""
        ...


def uncompiled(function: Any, *, dynamic: bool) -> Any:
    """`function` as it is."""
    return function


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
    model: LanguageModel | None = None
    """What `forward` runs, for protocols that adapt it; they leave its weights as they found them."""
    longest_row: int = 0
    """Most tokens that the model takes in one row; 0: as many as come."""
    at: Callable[[Batch, Tensor], Tensor] | None = None
    """`forward` told the places of the targets in the stream, where `on_logits` asks for them."""
    on_logits: tuple[LogitRework, ...] = ()
    compiled: Callable[..., Any] = uncompiled
    """(function, *, dynamic) -> a faster function; `dynamic` where it will meet many shapes."""
    average: Callable[[Sequence[Tensor]], None] = lambda tensors: None
    """Replaces tensors on the device by their means over ranks."""
    total: Callable[[Tensor], Tensor] = lambda tensor: tensor
    """Sums a CPU tensor over ranks."""
    left: Callable[[], float] = lambda: math.inf
    """Seconds that a strict evaluation still has; infinite where nothing is strict."""

    def scored(self, batch: Batch, positions: Tensor, counted: Tensor) -> Scored:
        """Score `batch` (on the CPU) as the model stands, whose targets have these (B, T) `positions`."""
        here = batch.to(self.device)
        if self.at is None:
            return score(self.forward, here, positions, counted)
        at, places = self.at, positions.to(self.device)
        return score(lambda batch: at(batch, places), here, positions, counted)

    def adaptable(self, protocol: str) -> LanguageModel:
        """The model behind `forward`. Raises `UsageError` for a forward pass that nobody can look into."""
        if self.model is None:
            raise UsageError(f"{protocol} adapts weights, and all it got of the model is its forward pass")
        return self.model


class EvaluationProtocol(Protocol):
    """`evaluate.protocol`: yields scored rows; over all ranks every target is counted exactly once."""

    def __call__(self, bench: Bench) -> Iterator[Scored]: ...
