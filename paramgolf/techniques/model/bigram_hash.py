"""BigramHash: a small table of embeddings for pairs of tokens, hashed, added to the token's own.

    row_t = (36313·id_t XOR 27191·id_{t−1}) mod (rows − 1);   rows − 1 where a row or a document starts
    x_t ← x_t + scale · projection(table[row_t])              table: (rows, width), scale 0.05

The records' table starts at zero and the projection orthogonal. `table_std` > 0 turns that round: Gaussian table,
zero projection (PR #102). `signs`: each looked-up row is multiplied by one of 8,192 fixed vectors of ±1, chosen by
(id_{t−1} XOR id_t) mod 8192, so that colliding pairs are nearly orthogonal.
Source: PRs #102, #162, #414; signs: KellerJordan/modded-nanogpt #299. Effect: rows 4,096 to 8,192 −0.0012 bpb, to
10,240 another −0.0008; 2,048 to 3,072 −0.0009. Cost: rows·width + width·D parameters. Dropped at 4,096 pieces (#1218).
Pitfall: the records hashed across document starts; here the first token of a document has the row of its own.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from paramgolf.bounds import require_not_negative
from paramgolf.model.hashed import HashedTable
from paramgolf.model.shift import one_later
from paramgolf.model.slots import Dims, ModelView, Pass
from paramgolf.registry import technique

SIGN_ROWS = 8192
"""Fixed vectors of signs."""


@technique("bigram_hash", fills="model.on_embed", source="PRs #102 #162 #414", effect="-0.0009 (2,048 to 3,072 rows)")
@dataclass(frozen=True, kw_only=True)
class BigramHash:
    """Hashed embeddings of token pairs."""

    rows: int = 2048
    """Rows of the table, the last for tokens without a predecessor."""
    width: int = 128
    """Channels of a row."""
    scale: float = 0.05
    """Initial size of what is added."""
    table_std: float = 0.0
    """Standard deviation of the table at the start; 0: zeros, and the projection orthogonal."""
    signs: bool = False
    """Whether colliding pairs get signs of their own."""

    def __post_init__(self) -> None:
        require_not_negative(self, "table_std")

    def check(self, model: ModelView) -> None:
        """There is a row to hash to, and something that can learn."""
        if self.rows < 2 or self.width < 1:
            raise ValueError(f"a table of {self.rows} rows and {self.width} channels holds no pairs")

    def build(self, dims: Dims) -> nn.Module:
        """Table and projection."""
        return BigramTable(self, dims.dim)


class BigramTable(HashedTable):
    """The table, and the signs where they are wanted."""

    signs: Tensor | None

    def __init__(self, config: BigramHash, dim: int) -> None:
        super().__init__(config.rows, config.width, dim, scale=config.scale, table_std=config.table_std)
        signs = None
        if config.signs:
            coins = torch.randint(2, (SIGN_ROWS, config.width), generator=torch.Generator().manual_seed(0))
            signs = (2 * coins - 1).to(torch.int8)
        self.register_buffer("signs", signs, persistent=False)

    def forward(self, x: Tensor, now: Pass) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        ids, before = now.batch.ids, one_later(now.batch.ids)
        mixed = (36313 * ids ^ 27191 * before) % (len(self.table) - 1)
        rows = self.rows(torch.where(now.batch.continues(), mixed, len(self.table) - 1))
        if self.signs is not None:
            rows = rows * self.signs[(before ^ ids) % SIGN_ROWS]
        return x + self.written(rows, x)
