"""Split lanes: in the deepest layers attention and feed-forward each keep a residual of their own, merged at the end.

    l0 ← u + attention(u), u = mix(l0)        l1 ← l1 + mlp(l1)
    end: g·l0 + (1 − g)·l1                    g: one number, starts at 1/2

Variant B of the catalogue. U-Net skips enter l0 only. Source: PRs #1334, #1477.
Effect: part of the bundle that led to 1.0897, never isolated. Cost: one number, and traffic for a second residual.
Pitfall: the halves no longer see what the other wrote, so deep layers work on two shallower models.
"""

from dataclasses import dataclass

from torch import Tensor, nn

from paramgolf.model.slots import Dims, ModelView, Pass, StreamModule, Sublayers
from paramgolf.parts import Role, constant
from paramgolf.registry import technique


@technique("split_lanes", fills="model.stream", source="PRs #1334 #1477", effect="not measured alone")
@dataclass(frozen=True, kw_only=True)
class SplitLanes:
    """A residual for attention and one for the feed-forward in the deepest layers."""

    last: int = 4
    """How many of the deepest layers run in two lanes."""
    merge: float = 0.5
    """Initial share of attention's lane in the end."""

    def __post_init__(self) -> None:
        if self.last < 1:
            raise ValueError(f"last={self.last} leaves no layer with two lanes; one_lane is the name of that")

    def check(self, model: ModelView) -> None:
        """Raise `ValueError` when there are not so many layers."""
        if self.last > model.dims.layers:
            raise ValueError(f"split_lanes in the last {self.last} of {model.dims.layers} layers")

    def build(self, dims: Dims) -> StreamModule:
        """One number."""
        return SplitLanesStream(dims.layers - self.last, self.merge)


class SplitLanesStream(StreamModule):
    """One lane, then two that meet at the end."""

    merge: nn.Parameter

    def __init__(self, opens: int, merge: float) -> None:
        super().__init__()
        self.opens = opens
        self.param("merge", 1, role=Role.SCALE, init=constant(merge))

    def enter(self, layer: int, lanes: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Split before the first layer that has two lanes."""
        return lanes * 2 if len(lanes) == 1 and layer >= self.opens else lanes

    def run_block(self, layer: int, block: Sublayers, lanes: tuple[Tensor, ...], now: Pass) -> tuple[Tensor, ...]:
        """Each half on its own lane."""
        if len(lanes) == 1:
            return super().run_block(layer, block, lanes, now)
        u = block.read_residual(lanes[0], now)
        return u + block.attend(u, now), lanes[1] + block.think(lanes[1])

    def finish(self, lanes: tuple[Tensor, ...]) -> Tensor:
        """The lanes, weighed."""
        share = self.merge.to(lanes[0].dtype)
        return lanes[0] if len(lanes) == 1 else share * lanes[0] + (1 - share) * lanes[1]
