"""Modules that say, where a parameter is made, what it is for and how it starts."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import Enum
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Init = Callable[[Tensor], object]
"""Fills a tensor in place."""


class Role(Enum):
    """What a parameter is for. The optimizer and the quantizer ask only this, never a name."""

    EMBED = "embed"
    """Token embedding, tied or not."""
    HEAD = "head"
    """Untied output projection."""
    ATTENTION = "attention"
    """Query, key, value and output projections."""
    MLP = "mlp"
    """Feed-forward projections."""
    TABLE = "table"
    """Side embeddings: bigram hash, value embedding."""
    PROJECTION = "projection"
    """Small matrices beside the blocks."""
    GATE = "gate"
    """Small matrices that drive gates."""
    SCALE = "scale"
    """Vectors and scalars: gains, mixes, lambdas."""


class Spec(NamedTuple):
    """The declaration of one parameter."""

    role: Role
    init: Init


class Part(nn.Module):
    """A module whose parameters carry a role and an initializer."""

    training_only = False
    """Whether what is below serves training alone: no artifact holds it, and nothing but the objective runs it."""

    def __init__(self) -> None:
        super().__init__()
        self.specs: dict[str, Spec] = {}

    def param(self, name: str, *shape: int, role: Role, init: Init) -> None:
        """Declare the parameter `name` of `shape` (fp32); its value is set by `reset`."""
        self.specs[name] = Spec(role, init)
        self.register_parameter(name, nn.Parameter(torch.empty(shape)))

    @torch.no_grad()
    def reset(self) -> None:
        """Initialize every parameter below this part, in order of declaration."""
        for module in self.modules():
            if isinstance(module, Part):
                for name, spec in module.specs.items():
                    spec.init(getattr(module, name))

    def at(self, progress: float) -> None:
        """Told the share of training done before each step; techniques that switch override it."""


class Declared(NamedTuple):
    """One parameter of a model with its role."""

    name: str
    parameter: nn.Parameter
    role: Role


def declared(model: nn.Module) -> Iterator[Declared]:
    """Every parameter of `model` once, in order of declaration.

    Raises `TypeError` naming the first one that declares no role.
    """
    for prefix, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            if not isinstance(module, Part) or name not in module.specs:
                raise TypeError(f"parameter {prefix}.{name} declares no role")
            yield Declared(f"{prefix}.{name}".lstrip("."), parameter, module.specs[name].role)


def kept_parameters(model: nn.Module) -> Iterator[Declared]:
    """Every parameter of `model` that an artifact holds, in order of declaration: not those for training alone."""
    modules = ((name, module) for name, module in model.named_modules() if isinstance(module, Part))
    aside = tuple(f"{name}." for name, module in modules if module.training_only)
    return (item for item in declared(model) if not item.name.startswith(aside))


class HasParameters(Protocol):
    """A model as far as its weights go."""

    def parameters(self) -> Iterator[nn.Parameter]:
        """Every weight once."""


class Linear(Part):
    """A projection without bias, weight (out, in), kept in fp32 and used in the input's dtype.

    `delta`, when set, is added to the output: adapters (LoRA, test-time training) hang there.
    """

    weight: nn.Parameter
    heads: int = 1
    """Attention heads that the rows of the weight belong to, in equal parts, where they do."""

    def __init__(self, fan_in: int, fan_out: int, *, role: Role, init: Init) -> None:
        super().__init__()
        self.param("weight", fan_out, fan_in, role=role, init=init)
        self.delta: nn.Module | None = None

    def used(self) -> Tensor:
        """(out, in) fp32: the matrix that multiplies; low-bit training returns what export will keep of `weight`."""
        return self.weight

    @property
    def bare(self) -> bool:
        """Whether the output is `used` times the input and nothing else, which others may then compute in its place."""
        return self.delta is None and type(self).forward is Linear.forward

    def matrix(self, dtype: torch.dtype, gain: Tensor | None = None) -> Tensor:
        """(out, in): `used` in `dtype`, its rows times `gain` (out), if one is given, before they are rounded."""
        used = self.used()
        return (used if gain is None else used * gain[:, None]).to(dtype)

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        y = F.linear(x, self.matrix(x.dtype))
        return y if self.delta is None else y + self.delta(x)


def heads_of_rows(model: nn.Module) -> dict[str, int]:
    """By parameter name, how many heads the rows of a projection's weight belong to, where that is more than one."""
    found = {name: module.heads for name, module in model.named_modules() if isinstance(module, Linear)}
    return {f"{name}.weight".lstrip("."): heads for name, heads in found.items() if heads > 1}


@contextmanager
def frozen_weights(model: HasParameters) -> Iterator[None]:
    """The model's own weights get no gradients meanwhile: something beside them learns, or only is looked at."""
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    try:
        for parameter in learned:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in learned:
            parameter.requires_grad_(True)


def wide_matrix(projections: Sequence[Linear], dtype: torch.dtype) -> Tensor:
    """(sum of their outs, in): the matrices of `projections`, one below the other.

    One wide product reads its input once, and its gradient needs no sum (docs/SPEED.md).
    """
    return torch.cat([projection.used() for projection in projections]).to(dtype)


def project_together(x: Tensor, projections: Sequence[Linear]) -> tuple[Tensor, ...]:
    """`projection(x)` for each, by one product unless one has a forward of its own: (..., in) -> (..., out)."""
    if any(type(projection).forward is not Linear.forward for projection in projections):
        return tuple(projection(x) for projection in projections)
    wide = F.linear(x, wide_matrix(projections, x.dtype)).split(
        [len(projection.weight) for projection in projections], dim=-1
    )
    return tuple(
        y if projection.delta is None else y + projection.delta(x)
        for y, projection in zip(wide, projections, strict=True)
    )


def constant(value: float) -> Init:
    """Initializer: every element `value`."""
    return lambda tensor: nn.init.constant_(tensor, value)


def normal(std: float) -> Init:
    """Initializer: independent Gaussians of standard deviation `std`."""
    return lambda tensor: nn.init.normal_(tensor, std=std)


def kaiming(tensor: Tensor) -> Tensor:
    """Initializer of `nn.Linear`: uniform on ±1/sqrt(fan_in)."""
    return nn.init.kaiming_uniform_(tensor, a=5**0.5)
