"""TrigramHash: hashed embeddings of pairs and of triples of tokens, from one table.

    pair_t   = (36313·id_t XOR 27191·id_{t−1}) mod (rows − 1)
    triple_t = (36313·id_t XOR 27191·id_{t−1} XOR 51497·id_{t−2}) mod (rows − 1)
    x_t ← x_t + scale · projection(table[pair_t] + table[triple_t])       rows − 1 where the document lacks a token

Takes the place of `bigram_hash`, whose table it widens by nothing.
Source: an option of the scripts around PR #549, off in every record. Effect: reported neutral or negative.
Cost: as `bigram_hash`, one more look-up.
Pitfalls: triples are many more than rows, so they collide with one another and with the pairs that earned their rows.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from paramgolf.bounds import require_not_negative
from paramgolf.model.hashed import HashedTable
from paramgolf.model.shift import one_later, preceding
from paramgolf.model.slots import Dims, ModelView, Pass
from paramgolf.registry import technique


@technique("trigram_hash", fills="model.on_embed", source="PR #549 (off)", effect="none or worse")
@dataclass(frozen=True, kw_only=True)
class TrigramHash:
    """Hashed embeddings of pairs and triples of tokens."""

    rows: int = 2048
    """Rows of the table, the last for tokens without predecessors."""
    width: int = 128
    """Channels of a row."""
    scale: float = 0.05
    """Initial size of what is added."""
    table_std: float = 0.0
    """Standard deviation of the table at the start; 0: zeros, and the projection orthogonal."""

    def __post_init__(self) -> None:
        require_not_negative(self, "table_std")

    def check(self, model: ModelView) -> None:
        """There is a row to hash to."""
        if self.rows < 2 or self.width < 1:
            raise ValueError(f"a table of {self.rows} rows and {self.width} channels holds no triples")

    def build(self, dims: Dims) -> nn.Module:
        """Table and projection."""
        return TrigramTable(self.rows, self.width, dims.dim, scale=self.scale, table_std=self.table_std)


class TrigramTable(HashedTable):
    """One table, looked up twice."""

    def forward(self, x: Tensor, now: Pass) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        ids, none = now.batch.ids, len(self.table) - 1
        before = one_later(ids)
        second = now.batch.continues()
        third = preceding(second, now.batch, second.new_zeros(()))
        pair = 36313 * ids ^ 27191 * before
        triple = pair ^ 51497 * one_later(before)
        rows = self.rows(torch.where(second, pair % none, none)) + self.rows(torch.where(third, triple % none, none))
        return x + self.written(rows, x)
