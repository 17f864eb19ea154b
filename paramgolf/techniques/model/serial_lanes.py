"""Serial lanes: deep layers keep two residuals; attention reads one, the feed-forward the other, each writes both.

    a = attention(mix(l0)):     l0 ← r₀·l0 + p₀·a,   l1 ← r₀·l1 + p₁·a
    m = mlp(mix(l1)), l1 new:   l0 ← r₁·l0 + q₀·m,   l1 ← r₁·l1 + q₁·m
    end: (l0 + l1) / 2                                r starts at √1.1, p and q at 1, of each layer

Variant A of the catalogue. U-Net skips go into both lanes. Source: PR #1204, layers from 7 of 11 on.
Effect: −0.0022 bpb (one run). Learned routing was strongly asymmetric: the feed-forward hardly writes to l0.
Cost: 6 numbers a layer, and traffic for a second residual. Pitfall: unlike in `two_lanes`, the halves are serial.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from paramgolf.model.slots import Dims, ModelView, Pass, StreamModule, Sublayers
from paramgolf.parts import Role, constant
from paramgolf.registry import technique


@technique("serial_lanes", fills="model.stream", source="PR #1204", effect="-0.0022 (one run)")
@dataclass(frozen=True, kw_only=True)
class SerialLanes:
    """Two residuals in the deepest layers, the halves one after the other."""

    last: int = 4
    """How many of the deepest layers run in two lanes."""
    keep: float = 1.1**0.5
    """Initial factor of a lane at each half."""

    def __post_init__(self) -> None:
        if self.last < 1:
            raise ValueError(f"last={self.last} leaves no layer with two lanes; one_lane is the name of that")

    def check(self, model: ModelView) -> None:
        """Raise `ValueError` when there are not so many layers."""
        if self.last > model.dims.layers:
            raise ValueError(f"serial_lanes in the last {self.last} of {model.dims.layers} layers")

    def build(self, dims: Dims) -> StreamModule:
        """Factors for every layer."""
        return SerialLanesStream(dims.layers, dims.layers - self.last, self.keep)


class SerialLanesStream(StreamModule):
    """One lane, then two."""

    keep: nn.Parameter
    write: nn.Parameter

    def __init__(self, layers: int, opens: int, keep: float) -> None:
        super().__init__()
        self.opens = opens
        self.param("keep", layers, 2, role=Role.SCALE, init=constant(keep))
        self.param("write", layers, 2, 2, role=Role.SCALE, init=constant(1.0))

    def enter(self, layer: int, lanes: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Split before the first layer that has two lanes."""
        return lanes * 2 if len(lanes) == 1 and layer >= self.opens else lanes

    def receive(self, lanes: tuple[Tensor, ...], rework: Callable[[Tensor], Tensor]) -> tuple[Tensor, ...]:
        """Apply to both lanes at once, so that a memory is read once: (2, B, T, D) in front of a part for (B, T, D)."""
        if len(lanes) == 1:
            return (rework(lanes[0]),)
        return torch.unbind(rework(torch.stack(lanes)))

    def run_block(self, layer: int, block: Sublayers, lanes: tuple[Tensor, ...], now: Pass) -> tuple[Tensor, ...]:
        """Attention from the first lane, then the feed-forward from the second."""
        if len(lanes) == 1:
            return super().run_block(layer, block, lanes, now)
        keep, write = self.keep[layer].to(lanes[0].dtype), self.write[layer].to(lanes[0].dtype)
        a = block.attend(block.read_residual(lanes[0], now), now)
        lanes = tuple(keep[0] * lane + write[0, i] * a for i, lane in enumerate(lanes))
        m = block.think(block.read_residual(lanes[1], now))
        return tuple(keep[1] * lane + write[1, i] * m for i, lane in enumerate(lanes))

    def finish(self, lanes: tuple[Tensor, ...]) -> Tensor:
        """The mean of the lanes."""
        return lanes[0] if len(lanes) == 1 else (lanes[0] + lanes[1]) / 2
