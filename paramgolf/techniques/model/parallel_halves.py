"""Parallel halves (GPT-J residual): in the deepest layers attention and feed-forward read the same residual.

    u = mix(x):   x ← u + attention(u) + mlp(u)

Variant C of the catalogue. Source: PRs #1412, #1493, layers from 7 of 11 on; GPT-J. Effect: part of the bundle of
#1493, not isolated; replaced by `two_lanes` (−0.0020 against it, #1529). Cost: none; the halves are independent.
Pitfalls: the feed-forward no longer sees what its own layer attended to, so in shallow layers it costs quality: begin
late. "Parallel residuals" in the records' names means four different things (architecture §6.4).
"""

from dataclasses import dataclass

from torch import Tensor

from paramgolf.model.slots import Dims, ModelView, Pass, StreamModule, Sublayers
from paramgolf.registry import technique


@technique("parallel_halves", fills="model.stream", source="PRs #1412 #1493; GPT-J", effect="not measured alone")
@dataclass(frozen=True, kw_only=True)
class ParallelHalves:
    """One lane, both halves at once in the deepest layers."""

    last: int = 4
    """How many of the deepest layers run their halves in parallel."""

    def __post_init__(self) -> None:
        if self.last < 1:
            raise ValueError(f"last={self.last} leaves no layer with parallel halves; one_lane is the name of that")

    def check(self, model: ModelView) -> None:
        """Raise `ValueError` when there are not so many layers."""
        if self.last > model.dims.layers:
            raise ValueError(f"parallel_halves in the last {self.last} of {model.dims.layers} layers")

    def build(self, dims: Dims) -> StreamModule:
        """The lane has no parameters."""
        return ParallelHalvesStream(dims.layers - self.last)


class ParallelHalvesStream(StreamModule):
    """Serial halves, then parallel ones."""

    def __init__(self, begins: int) -> None:
        super().__init__()
        self.begins = begins

    def run_block(self, layer: int, block: Sublayers, lanes: tuple[Tensor, ...], now: Pass) -> tuple[Tensor, ...]:
        """Run one block."""
        if layer < self.begins:
            return super().run_block(layer, block, lanes, now)
        u = block.read_residual(lanes[0], now)
        return (u + block.attend(u, now) + block.think(u),)
