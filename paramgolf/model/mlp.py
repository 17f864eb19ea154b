"""The feed-forward half of a block."""

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from paramgolf.model.kernels import kernel_takes, sums_run
from paramgolf.model.kernels.eight_bits import takes_eight_bits
from paramgolf.model.kernels.squared_feed_forward import squared_feed_forward
from paramgolf.model.kernels.stream_product import stream_product
from paramgolf.model.slots import Activation, Dims, ModelView, Parameters
from paramgolf.parts import Part, Role
from paramgolf.registry import technique


@technique("gelu", fills="model.activation", source="arXiv 1606.08415")
@dataclass(frozen=True, kw_only=True)
class GELU:
    """The Gaussian error linear unit."""

    def __call__(self, x: Tensor) -> Tensor:
        return F.gelu(x)


def hidden_width(mult: float, dims: Dims) -> int:
    """Channels between the projections. Raises `ValueError` when there are none."""
    width = round(mult * dims.dim)
    if width < 1:
        raise ValueError(f"mult={mult:g} of {dims.dim} channels leaves no hidden width")
    return width


@technique("feed_forward", fills="model.mlp", source="Vaswani et al. 2017")
@dataclass(frozen=True, kw_only=True)
class FeedForward:
    """Two projections with an activation between them."""

    mult: float = 4.0
    """Hidden width as a multiple of the model's."""

    def check(self, model: ModelView) -> None:
        """There is a hidden width."""
        hidden_width(self.mult, model.dims)

    def build(self, dims: Dims, layer: int, made_from: Parameters) -> nn.Module:
        """The feed-forward of one layer."""
        return FeedForwardModule(dims.dim, hidden_width(self.mult, dims), made_from)


class FeedForwardModule(Part):
    """`down(activation(up(x)))`."""

    takes_gain: ClassVar[bool] = True
    """Takes a gain per output, which multiplies the second matrix in place of every token, and a stream to add to."""
    free_units: ClassVar[tuple[str, str]] = ("up", "down")
    """Projections that make and that read units whose order is free: activations work on each alone."""

    def __init__(self, dim: int, hidden: int, made_from: Parameters) -> None:
        super().__init__()
        self.activation: Activation = made_from.activation
        self.fused, self.eight_bits, self.adds = made_from.fused, made_from.eight_bits, made_from.adds
        self.slope: float = getattr(self.activation, "squared_slope", -1.0)
        """Of the squared rectifier's negative side; -1 where the activation is something else."""
        self.up = made_from.linear(dim, hidden, role=Role.MLP, init=made_from.init)
        self.down = made_from.linear(hidden, dim, role=Role.MLP, init=made_from.init_out)

    def forward(self, x: Tensor, gain: Tensor | None = None, stream: Tensor | None = None) -> Tensor:
        """(B, T, D) -> (B, T, D), times `gain` (D), added to `stream`."""
        adds = stream if self.adds and sums_run() and self.down.bare and kernel_takes(x) else None
        if self.squares(x):
            up, down = self.up.matrix(x.dtype), self.down.matrix(x.dtype, gain)
            y = squared_feed_forward(x, up, down, self.slope, self.eight_bits and takes_eight_bits(up), adds)
        elif adds is not None:
            y = stream_product(adds, self.activation(self.up(x)), self.down.matrix(x.dtype, gain))
        else:
            hidden = self.activation(self.up(x))
            y = self.down(hidden) if gain is None else F.linear(hidden, self.down.matrix(x.dtype, gain))
        return y if stream is None or adds is not None else stream + y

    def squares(self, x: Tensor) -> bool:
        """Whether a kernel takes the square."""
        return 0 <= self.slope <= 1 and self.fused and kernel_takes(x) and self.up.bare and self.down.bare

    def folds(self) -> bool:
        """Whether nothing stands between the second matrix and the output."""
        return self.down.bare
