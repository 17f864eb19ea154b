"""Gated feed-forward: SwiGLU and its kin, by the activation beside it (`silu`: SwiGLU, `gelu`: GEGLU).

    y = W2 (activation(Wg x) ⊙ W1 x)       Wg, W1: (mult·D, D)

Three matrices: two thirds of the width cost as much as the plain feed-forward.
Source: arXiv 2002.05202. Effect (SwiGLU): −0.0041 bpb a step (1.3592 on one 5090), −0.009 at 3× in the ternary study
with 26 % more bytes. Cost: 127 against 101 ms a step there; "45 % slower on 8 GPUs, net negative" (FP16Embed_WD3600).
Pitfalls: comparisons a step and at equal width flatter it: it has half as many weights again, and none of the fused
products of the plain feed-forward.
"""

from dataclasses import dataclass

from torch import Tensor, nn

from paramgolf.model.mlp import hidden_width
from paramgolf.model.slots import Activation, Dims, ModelView, Parameters
from paramgolf.parts import Part, Role, project_together
from paramgolf.registry import technique


@technique("glu", fills="model.mlp", source="arXiv 2002.05202", effect="-0.0041 a step (SwiGLU), slower")
@dataclass(frozen=True, kw_only=True)
class GLU:
    """A feed-forward whose hidden channels are gated."""

    mult: float = 4.0
    """Hidden width as a multiple of the model's."""

    def check(self, model: ModelView) -> None:
        """There is a hidden width."""
        hidden_width(self.mult, model.dims)

    def build(self, dims: Dims, layer: int, made_from: Parameters) -> nn.Module:
        """The feed-forward of one layer."""
        return GatedFeedForward(dims.dim, hidden_width(self.mult, dims), made_from)


class GatedFeedForward(Part):
    """`down(activation(gate(x)) · up(x))`."""

    def __init__(self, dim: int, hidden: int, made_from: Parameters) -> None:
        super().__init__()
        self.activation: Activation = made_from.activation
        self.gate = made_from.linear(dim, hidden, role=Role.MLP, init=made_from.init)
        self.up = made_from.linear(dim, hidden, role=Role.MLP, init=made_from.init)
        self.down = made_from.linear(hidden, dim, role=Role.MLP, init=made_from.init_out)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        gate, up = project_together(x, (self.gate, self.up))
        # A copy only without a compiler: on a strided view, vector code rounds otherwise than on what an adapter made.
        return self.down(self.activation(gate.contiguous()) * up)
