"""Widths by layer: feed-forwards of different width in different layers.

    hidden[l] = mults[floor(l · n / layers)] · D,   n = len(mults)

As many multiples as layers give each its own; fewer are spread evenly, each for a run of layers.
Source: arXiv 2404.14619 (OpenELM). Effect: not measured in the contest, where every record has one width.
Cost: by the mean of the multiples. Pitfall: matrices of other shapes are other stacks for Muon, and other kernels.
"""

from dataclasses import dataclass

from torch import nn

from paramgolf.model.mlp import FeedForward, hidden_width
from paramgolf.model.slots import Dims, ModelView, Parameters
from paramgolf.registry import technique


@technique("layer_widths", fills="model.mlp", source="arXiv 2404.14619", effect="not measured in the contest")
@dataclass(frozen=True, kw_only=True)
class LayerWidths:
    """Plain feed-forwards, each layer with its width."""

    mults: tuple[float, ...] = (4.0,)
    """Hidden widths as multiples of the model's, from the first layers to the last."""

    def __post_init__(self) -> None:
        if not self.mults or min(self.mults) <= 0:
            raise ValueError(f"mults={self.mults}: give at least one, all positive")

    def check(self, model: ModelView) -> None:
        """Every multiple has a layer, and a channel."""
        if len(self.mults) > model.dims.layers:
            raise ValueError(f"{len(self.mults)} widths for {model.dims.layers} layers")
        hidden_width(min(self.mults), model.dims)

    def build(self, dims: Dims, layer: int, made_from: Parameters) -> nn.Module:
        """The feed-forward of one layer."""
        return FeedForward(mult=self.mults[layer * len(self.mults) // dims.layers]).build(dims, layer, made_from)
