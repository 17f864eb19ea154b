"""Finding and replacing the projections of finished blocks, for techniques that tie or fix whole matrices."""

from torch import nn

from paramgolf.model.config import GPTConfig
from paramgolf.model.slots import DenseLinear
from paramgolf.parts import Linear, Role


def projections_of(block: nn.Module, roles: frozenset[Role]) -> list[tuple[str, Linear]]:
    """Name and module of every projection of `roles` in `block`."""
    linears = [(name, module) for name, module in block.named_modules() if isinstance(module, Linear)]
    return [(name, linear) for name, linear in linears if linear.specs["weight"].role in roles]


def refuse_other_makers(model: GPTConfig, name: str) -> None:
    """Raise `ValueError` when another than the technique `name`, which replaces projections, makes them too."""
    if not isinstance(model.linear, DenseLinear):
        raise ValueError(f"{name} replaces the projections that {type(model.linear).__name__} would make")
    if len(model.on_blocks) > 1:
        raise ValueError(f"{name} and another technique of on_blocks replace the same projections")
