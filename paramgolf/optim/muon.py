"""Muon: momentum, made orthogonal, is the update of a matrix (K. Jordan, 2024; the published baseline).

buf <- μ·buf + g;  u = g + μ·buf (Nesterov);  O = orthogonalize(u);
p <- p·(1 − lr·wd) − lr·sqrt(max(1, rows/cols))·O.  Parameters and momentum are fp32.

Matrices of one shape are stacked, so that a step is a few batched products for each shape instead of
about twenty small kernels for each matrix. With several ranks each orthogonalizes its share of a stack
(PR #399; training catalogue §3.2) and the directions are gathered while the next stack is worked on;
momentum stays whole on every rank, so that a checkpoint of one rank is complete.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from paramgolf.bounds import require_not_negative, require_shares
from paramgolf.optim.orthogonalize import ClassicQuintic, Quintic, orthogonalize
from paramgolf.optim.schedule import cooled_down, warmed_up
from paramgolf.optim.slots import DecaySchedule, DecayShare, OnUpdate, Quintics, Ranks, Split


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
    momentum_end: float = 0.85
    """The same at the last step, when it cools down."""
    momentum_cooldown: float = 0.0
    """Share of training, at its end, over which momentum goes to `momentum_end`; 0: it does not (catalogue §4)."""
    nesterov: bool = True
    """Look one step ahead: orthogonalize g + μ·buf rather than buf."""
    steps: int = 5
    """Newton–Schulz iterations."""
    quintics: Quintics = ClassicQuintic()
    """The polynomial of each iteration."""
    precision: Literal["bfloat16", "float32"] = "bfloat16"
    """Of the iteration's products. bfloat16 everywhere by default, so that a CPU computes what an accelerator does."""
    split: Split | None = None
    """Projections whose rows belong to heads are orthogonalized in parts; none: whole."""
    weight_decay: float = 0.0
    """Decoupled: each step multiplies the matrix by 1 − lr·weight_decay."""
    decay_schedule: DecaySchedule | None = None
    """Scale of the decay as training goes on, beside the learning rate's; none: constant."""
    decay_share: DecayShare | None = None
    """Which coordinates decay; none: all."""

    def __post_init__(self) -> None:
        require_shares(self, "momentum", "momentum_start", "momentum_end")
        require_not_negative(self, "lr", "momentum_steps", "momentum_cooldown", "weight_decay")

    def momentum_at(self, step: int, fraction: float = 0.0) -> float:
        """Momentum after `step` finished steps and `fraction` of training."""
        warm = warmed_up(step, start=self.momentum_start, end=self.momentum, steps=self.momentum_steps)
        return cooled_down(fraction, start=warm, end=self.momentum_end, share=self.momentum_cooldown)


class MatrixStack(NamedTuple):
    """All matrices of one shape with their state, cut into parts of equal rows where the split says so."""

    names: tuple[str, ...]
    parameters: list[Tensor]
    """n / parts tensors (parts·rows, cols)."""
    parts: int
    """Matrices that one parameter is cut into."""
    momentum: Tensor
    """(n, rows, cols)."""
    before: list[dict[str, Tensor]]
    """State of each technique on the update."""
    after: list[dict[str, Tensor]]
    """State of each technique on the orthogonal direction."""


class Rates(NamedTuple):
    """The numbers of one step as 0-d tensors, so that changing them recompiles nothing."""

    lr: Tensor
    mu: Tensor
    decay: Tensor
    """lr · weight decay."""
    kept: Tensor | None = None
    """What clipping leaves of every gradient; none: all."""


class Recipe(NamedTuple):
    """What stays the same from step to step."""

    quintics: tuple[Quintic, ...]
    dtype: torch.dtype
    nesterov: bool
    decays: bool
    decay_share: DecayShare | None
    on_update: tuple[OnUpdate, ...]
    on_direction: tuple[OnUpdate, ...]


def nesterov_momentum(gradient: Tensor, momentum: Tensor, mu: Tensor, *, nesterov: bool) -> Tensor:
    """Advance `momentum` in place by `gradient` and return the update; all (n, rows, cols), `mu` 0-d."""
    momentum.mul_(mu).add_(gradient)
    return torch.addcmul(gradient, momentum, mu) if nesterov else momentum


def reworked_update(stack: MatrixStack, gradients: list[Tensor], rates: Rates, recipe: Recipe) -> Tensor:
    """What is to be orthogonalized, (n, rows, cols); momentum and the techniques' state advance in place."""
    gradient = torch.stack(gradients).view_as(stack.momentum)
    if rates.kept is not None:
        gradient = gradient * rates.kept
    update = nesterov_momentum(gradient, stack.momentum, rates.mu, nesterov=recipe.nesterov)
    for rework, memory in zip(recipe.on_update, stack.before, strict=True):
        update = rework(update, memory)
    return update


def move(stack: MatrixStack, direction: Tensor, rates: Rates, recipe: Recipe) -> None:
    """Decay the parameters and step them against the orthogonal `direction` (n, rows, cols), in place."""
    for rework, memory in zip(recipe.on_direction, stack.after, strict=True):
        direction = rework(direction, memory)
    rows, cols = direction.shape[-2:]
    whole = (len(stack.parameters), -1, cols)
    if recipe.decays and recipe.decay_share:
        weights = torch.stack(stack.parameters)
        share = recipe.decay_share(direction.view(whole), weights)
        torch._foreach_sub_(stack.parameters, (weights * share * rates.decay).unbind())
    elif recipe.decays:
        torch._foreach_mul_(stack.parameters, 1.0 - rates.decay)
    step = direction * (rates.lr * max(1.0, rows / cols) ** 0.5)
    torch._foreach_sub_(stack.parameters, step.view(whole).unbind())


def muon_step(stacks: Sequence[MatrixStack], gradients: Sequence[list[Tensor]], rates: Rates, recipe: Recipe) -> None:
    """One step for every stack, in place."""
    for stack, gradient in zip(stacks, gradients, strict=True):
        update = reworked_update(stack, gradient, rates, recipe)
        move(stack, orthogonalize(update, recipe.quintics, recipe.dtype).float(), rates, recipe)


def share_of_directions(
    stack: MatrixStack, gradients: list[Tensor], rates: Rates, recipe: Recipe, rank: int, world: int
) -> Tensor:
    """The orthogonal directions of this rank's matrices, (ceil(n / world), rows, cols), zeros beyond the last."""
    update = reworked_update(stack, gradients, rates, recipe)
    each = -(-len(update) // world)
    mine = update[rank * each : (rank + 1) * each]
    mine = torch.cat([mine, mine.new_zeros(each - len(mine), *update.shape[1:])])
    return orthogonalize(mine, recipe.quintics, recipe.dtype)


class Muon:
    """State of Muon over named matrices, all on one device; a matrix without a gradient counts as one of zeros.

    `heads` says of a matrix whose rows belong to heads how many; `ranks` shares the work out.
    """

    def __init__(
        self,
        parameters: Mapping[str, Tensor],
        config: MuonConfig,
        *,
        on_update: tuple[OnUpdate, ...] = (),
        on_direction: tuple[OnUpdate, ...] = (),
        heads: Mapping[str, int] | None = None,
        ranks: Ranks | None = None,
        compiled: bool = False,
    ) -> None:
        self.config = config
        self.ranks = ranks
        self.recipe = Recipe(
            quintics=config.quintics(config.steps),
            dtype=getattr(torch, config.precision),
            nesterov=config.nesterov,
            decays=config.weight_decay != 0.0,
            decay_share=config.decay_share,
            on_update=on_update,
            on_direction=on_direction,
        )
        parts = cuts_of(config.split, heads) if config.split and heads else None
        self.stacks = stack_matrices(parameters, self.recipe, parts)
        device = self.stacks[0].momentum.device if self.stacks else None
        self.rates = Rates(
            torch.zeros((), device=device), torch.zeros((), device=device), torch.zeros((), device=device)
        )
        self.advance, self.direct, self.move = muon_step, share_of_directions, move
        if compiled:
            self.advance = torch.compile(muon_step, fullgraph=True, dynamic=False)
            self.direct = torch.compile(share_of_directions, fullgraph=True, dynamic=False)
            self.move = torch.compile(move, fullgraph=True, dynamic=False)

    @torch.no_grad()
    def step_matrices(
        self,
        *,
        scale: float,
        step: int,
        fraction: float = 0.0,
        decay_scale: float = 1.0,
        kept: Tensor | None = None,
    ) -> None:
        """Update every matrix by its gradient. No host synchronization.

        `scale` multiplies the learning rate, `decay_scale` the decay besides, `kept` (0-d) the gradients; `step` is how
        many steps and `fraction` which share of training went before.
        """
        if not self.stacks:
            return
        lr = self.config.lr * scale
        self.rates.lr.fill_(lr)
        self.rates.mu.fill_(self.config.momentum_at(step, fraction))
        if self.config.weight_decay:
            self.rates.decay.fill_(lr * self.config.weight_decay * decay_scale)
        gradients = [[gradient_or_zeros(parameter) for parameter in stack.parameters] for stack in self.stacks]
        rates = self.rates if kept is None else self.rates._replace(kept=kept)
        if self.ranks and self.ranks.world > 1:
            self.step_together(gradients, rates, self.ranks)
        else:
            self.advance(self.stacks, gradients, rates, self.recipe)

    def step_together(self, gradients: Sequence[list[Tensor]], rates: Rates, ranks: Ranks) -> None:
        """The same step, each stack's orthogonalization shared out over `ranks`."""
        coming = []
        for stack, gradient in zip(self.stacks, gradients, strict=True):
            mine = self.direct(stack, gradient, rates, self.recipe, ranks.rank, ranks.world)
            coming.append(ranks.gather(mine))
        for stack, gathered in zip(self.stacks, coming, strict=True):
            direction = gathered()[: len(stack.momentum)].float()
            self.move(stack, direction, rates, self.recipe)

    def state(self) -> dict[str, Tensor]:
        """All state, parameter by parameter, as views: independent of how matrices are stacked."""
        return {
            f"{kind}/{name}": tensor[place] if stack.parts == 1 else tensor[place * stack.parts :][: stack.parts]
            for stack in self.stacks
            for kind, tensor in stacked_state(stack).items()
            for place, name in enumerate(stack.names)
        }


def stack_matrices(
    parameters: Mapping[str, Tensor], recipe: Recipe, parts: Mapping[str, int] | None
) -> list[MatrixStack]:
    """Matrices of one shape and number of `parts` (1 unless said) together, in order of first appearance, with zero
    momentum."""
    shapes: dict[tuple[int, ...], list[str]] = {}
    for name, parameter in parameters.items():
        assert parameter.ndim == 2, f"{name} of shape {tuple(parameter.shape)} is no matrix"
        assert parameter.dtype == torch.float32, f"{name} is {parameter.dtype}; Muon keeps fp32 masters"
        rows, cols = parameter.shape
        pieces = parts.get(name, 1) if parts else 1
        assert rows % pieces == 0, f"{name} has {rows} rows, no multiple of {pieces}"
        shapes.setdefault(parameter.view(pieces, -1, cols).shape, []).append(name)
    stacks = []
    for (cuts, rows, cols), names in shapes.items():
        chosen = [parameters[name] for name in names]
        momentum = torch.zeros(len(names) * cuts, rows, cols, device=chosen[0].device)
        before = [rework.memory(momentum) for rework in recipe.on_update]
        after = [rework.memory(momentum) for rework in recipe.on_direction]
        stacks.append(MatrixStack(tuple(names), chosen, cuts, momentum, before, after))
    return stacks


def cuts_of(split: Split, heads: Mapping[str, int]) -> dict[str, int]:
    """Into how many parts each matrix whose rows belong to heads is cut."""
    return {name: split(count) for name, count in heads.items()}


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
