"""Value residual (ResFormer): every layer mixes the first layer's values into its own.

    mix       v ← a·v_first + b·v         a and b start at `first` and `own` (PR #549: ½ and ½)
    add       v ← v + a·v_first           a starts at `first` (PR #1514: 0; PR #1859: 0.9)
    sigmoid   v ← v + σ(a)·v_first        a starts at `first` (PR #1019: 0)

v_first is what reached this filler in the first layer. Learned numbers are of each layer's own.
Source: arXiv 2410.17897; options of PRs #549, #1019, #1514, on in no record. Effect: −0.0010 bpb once (#1859),
neutral on strong stacks. Cost: one elementwise pass.
Pitfall: +0.14 in a fully looped model, whose passes live in different spaces (#363).
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from paramgolf.model.slots import Dims, Pass
from paramgolf.parts import Part, Role, constant
from paramgolf.registry import technique

Form = Literal["mix", "add", "sigmoid"]
FIRST_VALUE = "value_residual"
"""Where the first layer leaves its values."""


@technique("value_residual", fills="model.on_value", source="arXiv 2410.17897; PR #549", effect="-0.0010 once (#1859)")
@dataclass(frozen=True, kw_only=True)
class ValueResidual:
    """The first layer's values, again."""

    form: Form = "mix"
    """Whether the layer's own values are weighted too (`mix`), or the share passes through a sigmoid."""
    first: float = 0.5
    """Initial weight of the first layer's values, in the form `sigmoid` its logit."""
    own: float = 0.5
    """Initial weight of the layer's own values in the form `mix`."""

    def build(self, dims: Dims, layer: int) -> nn.Module:
        """The first layer leaves its values; the others mix."""
        return ValueMixer(self) if layer else FirstValue()


class FirstValue(nn.Module):
    """Leaves the values for the layers after."""

    def forward(self, v: Tensor, x: Tensor, now: Pass) -> Tensor:
        """(B, T, K, E) -> the same."""
        now.notes.setdefault(FIRST_VALUE, v)
        return v


class ValueMixer(Part):
    """One layer's weights."""

    first: nn.Parameter
    own: nn.Parameter

    def __init__(self, config: ValueResidual) -> None:
        super().__init__()
        self.form = config.form
        self.param("first", 1, role=Role.SCALE, init=constant(config.first))
        if config.form == "mix":
            self.param("own", 1, role=Role.SCALE, init=constant(config.own))

    def forward(self, v: Tensor, x: Tensor, now: Pass) -> Tensor:
        """(B, T, K, E) -> (B, T, K, E)."""
        weight = torch.sigmoid(self.first) if self.form == "sigmoid" else self.first
        own = self.own.to(v.dtype) * v if self.form == "mix" else v
        return own + weight.to(v.dtype) * now.notes[FIRST_VALUE]
