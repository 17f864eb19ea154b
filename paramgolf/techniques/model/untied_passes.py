"""Untied passes: what runs when a layer comes again has some tensors of its own and shares the rest.

    pass 0: block(W, c),   pass n: block(W, cₙ)        cₙ starts as what c is when the pass first runs

Chosen by role: controls are gains, mixes and gates of a block; the feed-forward's matrices may be untied as well.
Source: PR #1204 (feed-forward and all controls, attention shared). Effect: a small further gain over shared (#1204's
own sweep, no figure). Cost: about 2·10³ parameters a pass for the controls at width 512; a whole feed-forward in
bytes for its matrices. Pitfalls: without recurrence no pass is a further one, and nothing happens. The optimizer's
state is not copied: momentum of a new pass starts at zero.
"""

import copy
from dataclasses import dataclass

from torch import nn

from paramgolf.parts import Part, Role
from paramgolf.registry import technique


@technique("untied_passes", fills="model.repeats", source="PR #1204", effect="a small gain (#1204)")
@dataclass(frozen=True, kw_only=True)
class UntiedPasses:
    """Own tensors for each further pass of a layer."""

    controls: bool = True
    """Untie gains, mixes and gates."""
    mlp: bool = False
    """Untie the feed-forward's matrices."""
    attention: bool = False
    """Untie attention's projections."""

    def __post_init__(self) -> None:
        if not self.roles:
            raise ValueError("untied_passes unties nothing; shared is the name of that")

    @property
    def roles(self) -> frozenset[Role]:
        """The roles whose parameters a pass has of its own."""
        chosen = {Role.SCALE: self.controls, Role.GATE: self.controls}
        chosen |= {Role.MLP: self.mlp, Role.ATTENTION: self.attention}
        return frozenset(role for role, own in chosen.items() if own)

    def __call__(self, block: nn.Module, turn: int) -> nn.Module:
        """A copy of `block` with its own modules where they hold parameters of the chosen roles."""
        # A module that deepcopy believes to have copied already is taken as it is.
        shared = {id(module): module for module in block.modules() if not holds_role(module, self.roles)}
        return copy.deepcopy(block, shared)


def holds_role(module: nn.Module, roles: frozenset[Role]) -> bool:
    """Whether a parameter of one of `roles` is declared in `module` or below it."""
    parts = (part for part in module.modules() if isinstance(part, Part))
    return any(spec.role in roles for part in parts for spec in part.specs.values())
