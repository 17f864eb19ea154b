"""Embeddings of hashed token groups in one small table."""

import torch.nn.functional as F
from torch import Tensor, nn

from paramgolf.parts import Linear, Part, Role, constant, normal


class HashedTable(Part):
    """Rows of a table, projected to the model's width and scaled.

    One of table and projection starts at zero, the other does not, or neither would ever move.
    """

    table: nn.Parameter
    scale: nn.Parameter

    def __init__(self, rows: int, width: int, dim: int, *, scale: float, table_std: float) -> None:
        super().__init__()
        self.param("table", rows, width, role=Role.TABLE, init=normal(table_std))
        start = nn.init.zeros_ if table_std else nn.init.orthogonal_
        self.projection = Linear(width, dim, role=Role.PROJECTION, init=start) if width != dim else None
        self.param("scale", 1, role=Role.SCALE, init=constant(scale))

    def rows(self, places: Tensor) -> Tensor:
        """(B, T) row numbers -> (B, T, width) fp32."""
        return F.embedding(places, self.table)

    def written(self, rows: Tensor, like: Tensor) -> Tensor:
        """(B, T, width) rows -> (B, T, D), what is added to the embedding, in the dtype of `like`."""
        rows = rows.to(like.dtype)
        rows = rows if self.projection is None else self.projection(rows)
        return self.scale.to(like.dtype) * rows
