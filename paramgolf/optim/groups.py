"""The only table from a parameter's role to its optimizer, and the optimizer over all groups."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from enum import Enum
from typing import Literal

import torch
from torch import Tensor, nn

from paramgolf.bounds import require_not_negative
from paramgolf.errors import GolfError
from paramgolf.optim.adam import Adam, AdamConfig
from paramgolf.optim.clip import clipping
from paramgolf.optim.constant_rate import Constant
from paramgolf.optim.muon import Muon, MuonConfig
from paramgolf.optim.schedule import Progress
from paramgolf.optim.slots import Average, LookAhead, OnUpdate, Ranks, Schedule
from paramgolf.parts import Role, declared, heads_of_rows


class Group(Enum):
    """The groups of `OptimConfig`, by the name of their field."""

    MATRIX = "matrix"
    TOKEN = "token"
    HEAD = "head"
    SCALAR = "scalar"


GROUP_OF = {
    Role.EMBED: Group.TOKEN,
    Role.TABLE: Group.TOKEN,
    Role.HEAD: Group.HEAD,
    Role.ATTENTION: Group.MATRIX,
    Role.MLP: Group.MATRIX,
    Role.PROJECTION: Group.MATRIX,
    Role.SCALE: Group.SCALAR,
    Role.GATE: Group.SCALAR,
}


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """Optimizer of a run. The defaults are the published baseline's, with a constant learning rate."""

    matrix: MuonConfig = MuonConfig()
    """Attention and feed-forward matrices, and projections unless `projections` says otherwise."""
    token: AdamConfig = AdamConfig(lr=0.05)
    """Token embedding, tied or not, and side embeddings."""
    head: AdamConfig = AdamConfig(lr=0.008)
    """Untied output projection."""
    scalar: AdamConfig = AdamConfig(lr=0.04)
    """Gains, mixes and gates."""
    projections: Literal["matrix", "scalar"] = "matrix"
    """Group that steps the small projections beside the blocks (`Role.PROJECTION`)."""
    schedule: Schedule = Constant()
    """Scale of every learning rate as training goes on."""
    clip: float = 0.0
    """Largest joint norm of all gradients; 0: not clipped."""
    on_update: tuple[OnUpdate, ...] = ()
    """Techniques between momentum and orthogonalization, in order."""
    on_direction: tuple[OnUpdate, ...] = ()
    """Techniques between orthogonalization and the step, in order."""
    look_ahead: LookAhead | None = None
    """Where gradients are taken instead of at the weights; none: at the weights."""
    average: Average | None = None
    """Average of the weights that evaluation and export see; none: the weights themselves."""

    def __post_init__(self) -> None:
        require_not_negative(self, "clip")


def grouped(model: nn.Module, projections: str = "matrix") -> dict[Group, dict[str, Tensor]]:
    """Every parameter of `model` by name, in its group; that of `projections` is a setting of `OptimConfig`.

    Raises `ValueError` naming a parameter whose role asks for a matrix and which is none.
    """
    groups: dict[Group, dict[str, Tensor]] = {group: {} for group in Group}
    require_declared_once(model)
    for name, parameter, role in declared(model):
        group = Group(projections) if role is Role.PROJECTION else GROUP_OF[role]
        if group is Group.MATRIX and parameter.ndim != 2:
            raise ValueError(f"{name} of role {role.value} has shape {tuple(parameter.shape)}; Muon takes matrices")
        groups[group][name] = parameter
    return groups


def require_declared_once(model: nn.Module) -> None:
    """Assert that every parameter is declared, under one name."""
    known = [(id(parameter), name) for name, parameter, _ in declared(model)]
    first = dict(known[::-1])
    twice = [(name, first[place]) for place, name in known if first[place] != name]
    assert not twice, f"{twice[0][0]} is {twice[0][1]} under another name; declare it once"
    missing = [name for name, parameter in model.named_parameters() if id(parameter) not in first]
    assert not missing, f"{missing[0]} is in no optimizer group"


class Optimizer:
    """All groups of a model behind one `step`. Build it after the model has moved to its device.

    With `ranks`, gradients must be the same on all of them when `step` is called; weights then stay the same.
    """

    def __init__(
        self, model: nn.Module, config: OptimConfig, *, compiled: bool = False, ranks: Ranks | None = None
    ) -> None:
        groups = grouped(model, config.projections)
        self.config = config
        self.parameters = {name: parameter for group in groups.values() for name, parameter in group.items()}
        self.muon = Muon(
            groups[Group.MATRIX],
            config.matrix,
            on_update=config.on_update,
            on_direction=config.on_direction,
            heads=heads_of_rows(model),
            ranks=ranks,
            compiled=compiled,
        )
        self.adam = Adam(
            {
                Group.TOKEN.value: (config.token, groups[Group.TOKEN]),
                Group.HEAD.value: (config.head, groups[Group.HEAD]),
                Group.SCALAR.value: (config.scalar, groups[Group.SCALAR]),
            }
        )
        roles = {name: role for name, _, role in declared(model)}
        self.averager = config.average.build(self.parameters, roles) if config.average else None
        self.looker = config.look_ahead.build(self.parameters) if config.look_ahead else None
        self.scale = 1.0
        self.gradient_norm: Tensor | None = None
        """Joint norm of the last gradients before clipping (0-d); None unless they are clipped."""

    def look(self, progress: Progress) -> None:
        """Before the forward pass of a step: move the weights to where the gradient is to be taken."""
        if self.looker:
            self.looker.before(progress, self.config.schedule(progress))

    def step(self, progress: Progress, *, factor: float = 1.0) -> None:
        """Update every parameter by its gradient, as the schedules say at `progress`. No host synchronization.

        `factor` multiplies the learning rates beside the schedule.
        """
        self.scale = self.config.schedule(progress) * factor
        kept = None
        if self.config.clip:
            self.gradient_norm, kept = clipping(self.parameters.values(), self.config.clip)
        self.adam.step_groups(scale=self.scale, kept=kept)
        decay = self.config.matrix.decay_schedule
        self.muon.step_matrices(
            scale=self.scale,
            step=progress.step,
            fraction=progress.fraction,
            decay_scale=decay(progress) if decay else 1.0,
            kept=kept,
        )
        if self.looker:
            self.looker.after(progress)
        if self.averager:
            self.averager.update(progress, self.scale)

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for parameter in self.parameters.values():
            parameter.grad = None

    def averaged(self) -> AbstractContextManager[None]:
        """Inside, the model's parameters hold their average, if one is kept."""
        return self.averager.apply() if self.averager else nullcontext()

    def learning_rates(self) -> dict[str, float]:
        """The learning rate of the last step by group, for logs; groups without parameters are left out."""
        groups = zip(self.adam.names, self.adam.groups, strict=True)
        rates = {name: group.config.lr * self.scale for name, group in groups}
        return {Group.MATRIX.value: self.config.matrix.lr * self.scale, **rates} if self.muon.stacks else rates

    def state_dict(self) -> dict[str, Tensor]:
        """All state as a flat table of tensors, not copied; safetensors takes it as it is."""
        average = self.averager.state() if self.averager else {}
        ahead = self.looker.state() if self.looker else {}
        return {
            **{f"muon/{name}": tensor for name, tensor in self.muon.state().items()},
            **{f"adam/{name}": tensor for name, tensor in self.adam.state().items()},
            **{f"average/{name}": tensor for name, tensor in average.items()},
            **{f"look_ahead/{name}": tensor for name, tensor in ahead.items()},
        }

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Copy `state` in; training then goes on bit for bit as it would have.

        Raises `GolfError` naming the first tensor that is missing, left over or of another shape; nothing
        is changed then.
        """
        own = self.state_dict()
        for name in [*own, *state]:
            here = tuple(own[name].shape) if name in own else "not there"
            given = tuple(state[name].shape) if name in state else "not there"
            if here != given:
                raise GolfError(
                    "the optimizer state belongs to another model or configuration",
                    evidence=f"{name}: {given} in the checkpoint, {here} in this run",
                    fix="resume with the configuration saved beside the checkpoint, or start a new run",
                )
        for name, tensor in own.items():
            tensor.copy_(state[name])

    def snapshot(self) -> dict[str, Tensor]:
        """A copy of the optimizer's state (not of the weights), to undo warm-up steps with `load_state_dict`."""
        return {name: tensor.clone() for name, tensor in self.state_dict().items()}
