"""Gradient descent on the weights themselves, over text whose cost is on record."""

import math
from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from paramgolf.batch import Batch
from paramgolf.evaluate.documents import Spans
from paramgolf.evaluate.score import Forward, Scored
from paramgolf.evaluate.slots import Bench, LanguageModel


class Known:
    """Which targets of the stream have been scored, here or on another rank. Learning reads the stream through it."""

    def __init__(self, targets: int) -> None:
        self.scored = torch.zeros(targets, dtype=torch.bool)

    def add(self, scored: Scored) -> None:
        """Their cost is on record."""
        self.scored[scored.positions[scored.counted]] = True

    def gather(self, total: Callable[[Tensor], Tensor], first: int = 0, last: int | None = None) -> None:
        """Learn what other ranks have scored of targets `first` to `last`; all ranks call it at once."""
        self.scored[first:last] = total(self.scored[first:last].to(torch.int32)) > 0

    def rows(self, tokens: Tensor, spans: Spans, length: int) -> "TextRows":
        """The text of `spans`, each a row of `length` places, to learn from.

        Text that was not scored is nothing to learn from: `AssertionError`.
        """
        places = torch.from_numpy(spans.starts)[:, None] + torch.arange(length)
        counted = places < torch.from_numpy(spans.ends)[:, None]
        places = places.clamp(max=len(self.scored) - 1)
        assert bool(self.scored[places[counted]].all()), "learning from targets that have not been scored"
        blank = ~counted
        ids, targets = tokens[places].masked_fill(blank, 0), tokens[places + 1].masked_fill(blank, 0)
        return TextRows(Batch(ids, targets), counted)


def shared_rows(spans: Spans, rank: int, world: int) -> Spans:
    """Every `world`-th of `spans`, equally many on every rank: empty ones fill up."""
    missing = -len(spans.starts) % world
    starts, ends = (np.append(array, np.zeros(missing, dtype=np.int64)) for array in spans)
    return Spans(starts[rank::world], ends[rank::world])


class TextRows(NamedTuple):
    """Scored text in rows, on the CPU. Only `Known` makes one."""

    batch: Batch
    counted: Tensor
    """(R, T) bool: not padding."""


class DescentConfig(Protocol):
    """How weights learn."""

    @property
    def lr(self) -> float:
        """Of SGD, where its cosine starts."""
        ...

    @property
    def momentum(self) -> float:
        """Of SGD."""
        ...

    @property
    def clip(self) -> float:
        """Norm that the gradient is cut to; 0: none."""
        ...


class Descent:
    """SGD with momentum over all weights of a model, averaged over ranks."""

    def __init__(self, bench: Bench, model: LanguageModel, config: DescentConfig, costs: Forward | None = None) -> None:
        self.bench = bench
        self.clip = config.clip
        self.lr = config.lr
        self.costs = costs or bench.forward
        self.parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.SGD(self.parameters, lr=config.lr, momentum=config.momentum)

    def step(self, rows: TextRows, share: float) -> None:
        """One step on this rank's `rows`; `share` of the way (0..1) sets the rate, a cosine from `lr` to 0.

        All ranks step at once, with equally many rows, empty ones among them.
        """
        bench = self.bench
        count = torch.tensor([float(rows.counted.sum())])
        everywhere = float(bench.total(count.clone()))
        weights = rows.counted.to(bench.device) * (bench.world / max(everywhere, 1.0))
        (self.costs(rows.batch.to(bench.device)) * weights).sum().backward()
        gradients = [parameter.grad for parameter in self.parameters if parameter.grad is not None]
        bench.average(gradients)
        if self.clip:
            torch.nn.utils.clip_grad_norm_(self.parameters, self.clip)
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr * 0.5 * (1.0 + math.cos(math.pi * share))
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
