"""Two lanes: the deepest layers keep two residuals, read at once by attention and feed-forward, each writing both.

    a = attention(mix(l0)),  m = mlp(l1)                     both from the old lanes
    l0 ← R[0]·l0 + P[0,0]·a + P[1,0]·m
    l1 ← R[1]·l1 + P[0,1]·a + P[1,1]·m                       R starts at 1.1, P at 1, of each layer
    end: (l0 + l1) / 2, or one of them

Variant D of the catalogue. U-Net skips enter l0 only, and l1 is not mixed with x0. Source: PR #1529, in every record
from #1530 to #1855, layers from 8 of 11 on. Effect: −0.0020 bpb (#1529 against #1523, which had parallel halves).
Cost: 6 numbers a layer (rows exist for every layer, as published: 66 of 11) and traffic for a second residual; the
halves are independent. Pitfall: a layer that comes again after the lanes have opened runs in two lanes too.
"""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from paramgolf.model.kernels import kernel_takes
from paramgolf.model.kernels.lane_step import lane_step
from paramgolf.model.slots import Dims, ModelView, Pass, StreamModule, Sublayers
from paramgolf.parts import Role, constant
from paramgolf.registry import technique

Finish = Literal["mean", "attention", "mlp"]


@technique("two_lanes", fills="model.stream", source="PR #1529", effect="-0.0020")
@dataclass(frozen=True, kw_only=True)
class TwoLanes:
    """Two residuals in the deepest layers, both halves at once."""

    last: int = 3
    """How many of the deepest layers run in two lanes."""
    keep: float = 1.1
    """Initial factor of a lane at each layer."""
    finish: Finish = "mean"
    """What goes to the head: the mean of the lanes, or the lane that attention or the feed-forward reads."""

    def __post_init__(self) -> None:
        if self.last < 1:
            raise ValueError(f"last={self.last} leaves no layer with two lanes; one_lane is the name of that")

    def check(self, model: ModelView) -> None:
        """Raise `ValueError` when there are not so many layers."""
        if self.last > model.dims.layers:
            raise ValueError(f"two_lanes in the last {self.last} of {model.dims.layers} layers")

    def build(self, dims: Dims) -> StreamModule:
        """Factors for every layer."""
        return TwoLanesStream(dims.layers, dims.layers - self.last, self)


class TwoLanesStream(StreamModule):
    """One lane, then two."""

    keep: nn.Parameter
    write: nn.Parameter

    def __init__(self, layers: int, opens: int, config: TwoLanes) -> None:
        super().__init__()
        self.opens = opens
        self.ends = config.finish
        self.param("keep", layers, 2, role=Role.SCALE, init=constant(config.keep))
        self.param("write", layers, 2, 2, role=Role.SCALE, init=constant(1.0))

    def enter(self, layer: int, lanes: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Split before the first layer that has two lanes."""
        return lanes * 2 if len(lanes) == 1 and layer >= self.opens else lanes

    def run_block(self, layer: int, block: Sublayers, lanes: tuple[Tensor, ...], now: Pass) -> tuple[Tensor, ...]:
        """Both halves read the old lanes and write the new ones."""
        if len(lanes) == 1:
            return super().run_block(layer, block, lanes, now)
        a, m = block.attend_alone(lanes[0], now), block.think(lanes[1])
        if self.fused and kernel_takes(a):
            return lane_step(lanes, a, m, self.keep[layer], self.write[layer])
        keep, write = self.keep[layer].to(lanes[0].dtype), self.write[layer].to(lanes[0].dtype)
        return tuple(keep[i] * lane + write[0, i] * a + write[1, i] * m for i, lane in enumerate(lanes))

    def finish(self, lanes: tuple[Tensor, ...]) -> Tensor:
        """What goes to the head."""
        if len(lanes) == 1 or self.ends == "attention":
            return lanes[0]
        return lanes[1] if self.ends == "mlp" else (lanes[0] + lanes[1]) / 2
