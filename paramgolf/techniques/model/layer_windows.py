"""Windows by layer: some layers see only the last few tokens.

    layer l attends to tokens t − w + 1 … t,   w = sizes[l mod len(sizes)];   0: to all before

Sizes repeat over the layers; as many sizes as layers give each its own.
Source: arXiv 2004.05150; KellerJordan/modded-nanogpt (short and long windows in turn). Effect: not measured in the
contest, whose records attend to the whole row. Cost: less than full attention where the backend skips blocks
(FA3, FlexAttention); more where it masks (SDPA).
Pitfall: refused with the backends `cudnn`, `flash` and `varlen`, which know no windows.
"""

from dataclasses import dataclass

from paramgolf.model.slots import ModelView
from paramgolf.registry import technique


@technique(
    "layer_windows",
    fills="model.window",
    source="arXiv 2004.05150; KellerJordan/modded-nanogpt",
    effect="not measured in the contest",
)
@dataclass(frozen=True, kw_only=True)
class LayerWindows:
    """Short and long windows in turn."""

    sizes: tuple[int, ...] = (256, 0)
    """Tokens that a query sees, itself included, repeated over the layers; 0: all."""

    def __post_init__(self) -> None:
        if not self.sizes or min(self.sizes) < 0:
            raise ValueError(f"sizes={self.sizes}: give at least one, none negative")

    def check(self, model: ModelView) -> None:
        """Every size has a layer."""
        if len(self.sizes) > model.dims.layers:
            raise ValueError(f"{len(self.sizes)} sizes for {model.dims.layers} layers")

    def __call__(self, layers: int, layer: int) -> int:
        return self.sizes[layer % len(self.sizes)]
