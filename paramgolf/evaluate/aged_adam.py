"""Adapters of all rows in one matrix, and AdamW over it, in which every row has its own age.

Shapes: R rows, P weights of a row: first every A, then every B.
"""

import torch
from torch import Tensor

from paramgolf.evaluate.adapt import AdapterConfig
from paramgolf.evaluate.adapters import Adapters
from paramgolf.evaluate.slots import Bench


class FlatAdapters:
    """The weights of `Adapters`, freshly started, as one (R, P) matrix, of which they become views."""

    def __init__(self, adapters: Adapters) -> None:
        self.adapters = adapters
        wholes = [*(a for delta in adapters.deltas for a in delta.whole_a)]
        self.first_b = sum(a[0].numel() for a in wholes)
        wholes += [b for delta in adapters.deltas for b in delta.whole_b]
        self.shapes = [whole.shape for whole in wholes]
        self.sizes = [whole[0].numel() for whole in wholes]
        self.weights = torch.cat([whole.flatten(1) for whole in wholes], 1)
        self.drawn = self.weights[:1, : self.first_b].clone()
        """What A starts from, the same for every row."""
        views = self.views(self.weights)
        for delta, (a, b) in zip(adapters.deltas, self.by_delta(views), strict=True):
            delta.whole_a, delta.whole_b = a, b
        self.weights.requires_grad_()

    def views(self, weights: Tensor) -> list[Tensor]:
        """Every A, then every B, of `weights`."""
        parts = weights.split(self.sizes, dim=1)  # one split: its gradient is one concatenation
        return [part.unflatten(1, shape[1:]) for part, shape in zip(parts, self.shapes, strict=True)]

    def by_delta(self, views: list[Tensor]) -> list[tuple[list[Tensor], list[Tensor]]]:
        """The As and Bs of each adapter."""
        found, first, half = [], 0, len(views) // 2
        for delta in self.adapters.deltas:
            last = first + len(delta.whole_a)
            found.append((views[first:last], views[half + first : half + last]))
            first = last
        return found

    def use(self, weights: Tensor) -> None:
        """Compute with `weights`."""
        self.adapters.use([weight for a, b in self.by_delta(self.views(weights)) for weight in (*a, *b)])

    @torch.no_grad()
    def clear(self, rows: Tensor, *, warm: bool) -> None:
        """B zero in `rows` (R,), which are 1 or 0; A drawn anew unless it is kept `warm`."""
        chosen = rows[:, None] > 0
        self.weights[:, self.first_b :].masked_fill_(chosen, 0.0)
        if not warm:
            self.weights[:, : self.first_b] = torch.where(chosen, self.drawn, self.weights[:, : self.first_b])


class AgedAdam:
    """AdamW over (R, P) weights, in which every row counts its own steps."""

    def __init__(self, weights: Tensor, config: AdapterConfig, bench: Bench) -> None:
        self.config = config
        self.weights = weights
        self.second = torch.zeros_like(weights, requires_grad=False)
        self.first = torch.zeros_like(self.second) if config.beta1 else None
        self.age = torch.zeros(len(weights), 1, device=weights.device)
        self.moved = bench.compiled(aged_adam, dynamic=False)

    @torch.no_grad()
    def clear(self, rows: Tensor) -> None:
        """Forget the moments of `rows` (R,), which are 1 or 0."""
        chosen = rows[:, None] > 0
        for kept in (self.second, self.first, self.age):
            if kept is not None:
                kept.masked_fill_(chosen, 0.0)

    @torch.no_grad()
    def learn(self, rows: Tensor) -> None:
        """One step by the gradient of the weights in `rows` (R,), which are 1 or 0; the others stay."""
        gradient = self.weights.grad
        assert gradient is not None
        self.moved(self.weights.detach(), gradient, self.second, self.first, self.age, rows[:, None] > 0, self.config)
        self.weights.grad = None


def aged_adam(
    weights: Tensor,
    gradient: Tensor,
    second: Tensor,
    first: Tensor | None,
    age: Tensor,
    learns: Tensor,
    config: AdapterConfig,
) -> None:
    """AdamW in place, where `learns` (R, 1) says so: one pass over weights, gradient (R, P) and moments."""
    age += learns
    second.copy_(torch.where(learns, config.beta2 * second + (1.0 - config.beta2) * gradient.square(), second))
    mean = gradient
    if first is not None:
        first.copy_(torch.where(learns, config.beta1 * first + (1.0 - config.beta1) * gradient, first))
        mean = first / (1.0 - config.beta1**age)
    scale = (second / (1.0 - config.beta2**age)).sqrt() + config.eps
    moved = weights * (1.0 - config.lr * config.weight_decay) - config.lr * mean / scale
    weights.copy_(torch.where(learns, moved, weights))
