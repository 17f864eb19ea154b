"""AttnOutGate: every head's output is weighed between 0 and 2 by a gate that reads a few channels of the input.

    y[h] ← y[h] · 2σ(W[h]·x[:12])          W: (H, 12), starts at 0, so 1 at the start

Source: PR #1667. Effect: never alone; with smear on the stack of #1530, 1.0725 to 1.0715 bpb before quantization.
Cost: 96 parameters a layer, 1.5 % of a step.
Pitfalls: every forward pass of the model has to run it (a test-time pass without it gave 1.908 bpb in a record
script); once heads lose their own value (`xsa`), gates were found removable elsewhere (modded-nanogpt #317).
"""

from dataclasses import dataclass

from torch import nn

from paramgolf.model.head_gate import HeadGate, check_gate_width
from paramgolf.model.slots import Dims, ModelView
from paramgolf.registry import technique


@technique("attention_out_gate", fills="model.on_heads", source="PR #1667", effect="-0.0010 (with smear)", neutral=True)
@dataclass(frozen=True, kw_only=True)
class AttentionOutGate:
    """A gate a head that starts open."""

    width: int = 12
    """Leading channels that decide."""

    def check(self, model: ModelView) -> None:
        """The gate reads channels that exist."""
        check_gate_width(self.width, model.dims)

    def build(self, dims: Dims, layer: int) -> nn.Module:
        """The gates of one layer."""
        return HeadGate(dims.heads, self.width, nn.init.zeros_, height=2.0)
