"""Value embedding (VE): deep layers add to their values what a side table says of the token.

    v ← v + scale[layer] · s · P · table[id]       table: (V, width), P: (K·E, width), s 0.1, scale[layer] 1

One table and one projection for all layers that use it; the first of them computes, the others read its note.
Source: PRs #374, #414, #549, #1218 (width 128, layers 9 and 10 of 11). Effect: part of −0.0015 bpb (#374).
Cost: V·width + K·E·width parameters; dropped at 8,192 pieces, where the table is too dear (#1394).
Pitfall: record scripts write P as zeros, but their orthogonal initialization goes over it; it starts orthogonal here.
"""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from paramgolf.bounds import require_not_negative
from paramgolf.model.slots import Dims, ModelView, Pass
from paramgolf.parts import Linear, Part, Role, constant, normal
from paramgolf.registry import technique

NOTE = "value_embedding"
"""Where the first layer leaves what it computed."""


@technique("value_embedding", fills="model.on_value", source="PRs #374 #549 #1218", effect="-0.0015 (bundle)")
@dataclass(frozen=True, kw_only=True)
class ValueEmbedding:
    """A second token embedding, added to values."""

    width: int = 128
    """Channels of the table."""
    last: int = 2
    """How many of the deepest layers use it."""
    std: float = 0.01
    """Standard deviation of the table at the start."""
    scale: float = 0.1
    """Initial size of what is added."""

    def __post_init__(self) -> None:
        require_not_negative(self, "std")

    def check(self, model: ModelView) -> None:
        """Some layers use it."""
        if not 1 <= self.last <= model.dims.layers or self.width < 1:
            raise ValueError(f"the last {self.last} of {model.dims.layers} layers with width {self.width}")

    def build(self, dims: Dims, layer: int) -> nn.Module | None:
        """The layer's scale, in the first layer of them the table too."""
        first = dims.layers - self.last
        if layer < first:
            return None
        return ValueScale(ValueTable(dims, self.width, self.std, self.scale) if layer == first else None)


class ValueTable(Part):
    """The table and the way from it to a value."""

    table: nn.Parameter
    scale: nn.Parameter

    def __init__(self, dims: Dims, width: int, std: float, scale: float) -> None:
        super().__init__()
        self.param("table", dims.vocab, width, role=Role.TABLE, init=normal(std))
        self.projection = Linear(width, dims.kv_heads * dims.head_dim, role=Role.PROJECTION, init=nn.init.orthogonal_)
        self.param("scale", 1, role=Role.SCALE, init=constant(scale))

    def forward(self, v: Tensor, ids: Tensor) -> Tensor:
        """Something like the values `v` (B, T, K, E) for (B, T) ids."""
        found = F.embedding(ids, self.table).to(v.dtype)
        return (self.scale.to(v.dtype) * self.projection(found)).view_as(v)


class ValueScale(Part):
    """What one layer takes of it."""

    scale: nn.Parameter

    def __init__(self, table: ValueTable | None) -> None:
        super().__init__()
        self.table = table
        self.param("scale", 1, role=Role.SCALE, init=constant(1.0))

    def forward(self, v: Tensor, x: Tensor, now: Pass) -> Tensor:
        """(B, T, K, E) -> (B, T, K, E)."""
        if self.table is not None and NOTE not in now.notes:
            now.notes[NOTE] = self.table(v, now.batch.ids)
        return v + self.scale.to(v.dtype) * now.notes[NOTE]
