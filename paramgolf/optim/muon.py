"""Muon: momentum, made orthogonal, is the update of a matrix (K. Jordan, 2024; the published baseline).

buf <- μ·buf + g;  u = g + μ·buf (Nesterov);  O = orthogonalize(u);
p <- p·(1 − lr·wd) − lr·sqrt(max(1, rows/cols))·O.  Parameters and momentum are fp32.

Matrices of one shape are stacked, so that a step is a few batched products for each shape instead of
about twenty small kernels for each matrix.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from paramgolf.optim.orthogonalize import ClassicQuintic, Quintic, orthogonalize
from paramgolf.optim.schedule import warmed_up
from paramgolf.optim.slots import OnUpdate, Quintics


@dataclass(frozen=True, kw_only=True)
class MuonConfig:
    """Settings of Muon. The defaults are the published baseline's (presets catalogue, table B)."""

    lr: float = 0.04
    """Learning rate: spectral norm of a step, about, for a matrix that is not tall."""
    momentum: float = 0.95
    """Share of the momentum that a step keeps, once warmed up."""
    momentum_start: float = 0.85
    """The same at the first step."""
    momentum_steps: int = 500
    """Steps over which momentum rises from `momentum_start`; 0: no warm-up."""
    nesterov: bool = True
    """Look one step ahead: orthogonalize g + μ·buf rather than buf."""
    steps: int = 5
    """Newton–Schulz iterations."""
    quintics: Quintics = ClassicQuintic()
    """The polynomial of each iteration."""
    precision: Literal["bfloat16", "float32"] = "bfloat16"
    """Of the iteration's products. bfloat16 everywhere by default, so that a CPU computes what an accelerator does."""
    weight_decay: float = 0.0
    """Decoupled: each step multiplies the matrix by 1 − lr·weight_decay."""

    def momentum_at(self, step: int) -> float:
        """Momentum after `step` finished steps."""
        return warmed_up(step, start=self.momentum_start, end=self.momentum, steps=self.momentum_steps)


class MatrixStack(NamedTuple):
    """All matrices of one shape with their state."""

    names: tuple[str, ...]
    parameters: list[Tensor]
    """n tensors (rows, cols)."""
    momentum: Tensor
    """(n, rows, cols)."""
    before: list[dict[str, Tensor]]
    """State of each technique on the update."""
    after: list[dict[str, Tensor]]
    """State of each technique on the orthogonal direction."""


class Recipe(NamedTuple):
    """What stays the same from step to step."""

    quintics: tuple[Quintic, ...]
    dtype: torch.dtype
    nesterov: bool
    weight_decay: float
    on_update: tuple[OnUpdate, ...]
    on_direction: tuple[OnUpdate, ...]


def nesterov_momentum(gradient: Tensor, momentum: Tensor, mu: Tensor, *, nesterov: bool) -> Tensor:
    """Advance `momentum` in place by `gradient` and return the update; all (n, rows, cols), `mu` 0-d."""
    momentum.mul_(mu).add_(gradient)
    return torch.addcmul(gradient, momentum, mu) if nesterov else momentum


def muon_step(
    stacks: Sequence[MatrixStack], gradients: Sequence[list[Tensor]], rate: Tensor, mu: Tensor, recipe: Recipe
) -> None:
    """One step for every stack, in place. `rate` and `mu` are 0-d tensors, so that changing them recompiles nothing."""
    for stack, gradient in zip(stacks, gradients, strict=True):
        update = nesterov_momentum(torch.stack(gradient), stack.momentum, mu, nesterov=recipe.nesterov)
        for rework, memory in zip(recipe.on_update, stack.before, strict=True):
            update = rework(update, memory)
        direction = orthogonalize(update, recipe.quintics, recipe.dtype).float()
        for rework, memory in zip(recipe.on_direction, stack.after, strict=True):
            direction = rework(direction, memory)
        rows, cols = direction.shape[-2:]
        if recipe.weight_decay:
            torch._foreach_mul_(stack.parameters, 1.0 - rate * recipe.weight_decay)
        torch._foreach_sub_(stack.parameters, (direction * (rate * max(1.0, rows / cols) ** 0.5)).unbind())


class Muon:
    """State of Muon over named matrices, all on one device; a matrix without a gradient counts as one of zeros."""

    def __init__(
        self,
        parameters: Mapping[str, Tensor],
        config: MuonConfig,
        *,
        on_update: tuple[OnUpdate, ...] = (),
        on_direction: tuple[OnUpdate, ...] = (),
        compiled: bool = False,
    ) -> None:
        self.config = config
        self.recipe = Recipe(
            quintics=config.quintics(config.steps),
            dtype=getattr(torch, config.precision),
            nesterov=config.nesterov,
            weight_decay=config.weight_decay,
            on_update=on_update,
            on_direction=on_direction,
        )
        self.stacks = stack_matrices(parameters, self.recipe)
        device = self.stacks[0].momentum.device if self.stacks else None
        self.rate = torch.zeros((), device=device)
        self.mu = torch.zeros((), device=device)
        self.advance = torch.compile(muon_step, fullgraph=True, dynamic=False) if compiled else muon_step

    @torch.no_grad()
    def step(self, *, scale: float, step: int) -> None:
        """Update every matrix by its gradient; `scale` multiplies the learning rate, `step` is how many went before."""
        if not self.stacks:
            return
        self.rate.fill_(self.config.lr * scale)
        self.mu.fill_(self.config.momentum_at(step))
        gradients = [[gradient_or_zeros(parameter) for parameter in stack.parameters] for stack in self.stacks]
        self.advance(self.stacks, gradients, self.rate, self.mu, self.recipe)

    def state(self) -> dict[str, Tensor]:
        """All state, matrix by matrix, as views: independent of how matrices are stacked."""
        return {
            f"{kind}/{name}": tensor[place]
            for stack in self.stacks
            for kind, tensor in stacked_state(stack).items()
            for place, name in enumerate(stack.names)
        }


def stack_matrices(parameters: Mapping[str, Tensor], recipe: Recipe) -> list[MatrixStack]:
    """Matrices of one shape together, in order of first appearance, with zero momentum."""
    shapes: dict[torch.Size, list[str]] = {}
    for name, parameter in parameters.items():
        assert parameter.ndim == 2, f"{name} of shape {tuple(parameter.shape)} is no matrix"
        assert parameter.dtype == torch.float32, f"{name} is {parameter.dtype}; Muon keeps fp32 masters"
        shapes.setdefault(parameter.shape, []).append(name)
    stacks = []
    for shape, names in shapes.items():
        chosen = [parameters[name] for name in names]
        momentum = torch.zeros(len(names), *shape, device=chosen[0].device)
        before = [rework.memory(momentum) for rework in recipe.on_update]
        after = [rework.memory(momentum) for rework in recipe.on_direction]
        stacks.append(MatrixStack(tuple(names), chosen, momentum, before, after))
    return stacks


def stacked_state(stack: MatrixStack) -> dict[str, Tensor]:
    """Every state tensor of a stack by kind, leading dimension n."""
    state = {"momentum": stack.momentum}
    for slot, memories in (("on_update", stack.before), ("on_direction", stack.after)):
        for place, memory in enumerate(memories):
            state |= {f"{slot}.{place}.{key}": tensor for key, tensor in memory.items()}
    return state


def gradient_or_zeros(parameter: Tensor) -> Tensor:
    """The gradient, or zeros where the last backward pass did not reach."""
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
