"""Factorized tied embedding: a narrow table, with a projection to the model's width and one back.

    x = P_in E[id],   logits = E P_out x + b       E: (V, r), P_in: (D, r), P_out: (r, D), b: (V)

Lets a wide model have a large vocabulary: V·r + 2·r·D instead of V·D.
Source: ternary and binary records (r = 254 at D = 768, V = 8,192); ALBERT, arXiv 1909.11942.
Effect: better there, for the bytes it frees; no use at D = 512. Cost: two small matrix products a token, the first
in fp32.
Pitfalls: logits have rank r, so r bounds what the head can tell apart; `orthogonal_projections` and Muon treat both
projections as matrices, the bias is a scalar.
"""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from paramgolf.bounds import require_not_negative
from paramgolf.model.slots import Dims, EmbeddingModule, ModelView
from paramgolf.parts import Linear, Part, Role, kaiming, normal
from paramgolf.registry import technique


@technique("factorized", fills="model.embedding", source="ternary record; arXiv 1909.11942", effect="better at D=768")
@dataclass(frozen=True, kw_only=True)
class FactorizedEmbedding:
    """A tied embedding of low rank."""

    rank: int = 254
    """Channels of the table."""
    std: float = 0.005
    """Standard deviation of the table at the start."""
    bias: bool = True
    """Whether every token has a bias in its logit."""

    def __post_init__(self) -> None:
        require_not_negative(self, "std")

    def check(self, model: ModelView) -> None:
        """There is a rank."""
        if self.rank < 1:
            raise ValueError(f"rank={self.rank} embeds nothing")

    def build(self, dims: Dims) -> EmbeddingModule:
        """Table, projections and bias."""
        return FactorizedModule(self, dims)


class FactorizedModule(Part):
    """The narrow table and the ways in and out."""

    weight: nn.Parameter
    bias: nn.Parameter

    def __init__(self, config: FactorizedEmbedding, dims: Dims) -> None:
        super().__init__()
        self.param("weight", dims.vocab, config.rank, role=Role.EMBED, init=normal(config.std))
        self.into = Linear(config.rank, dims.dim, role=Role.PROJECTION, init=kaiming)
        self.back = Linear(dims.dim, config.rank, role=Role.PROJECTION, init=kaiming)
        self.biased = config.bias
        if config.bias:
            self.param("bias", dims.vocab, role=Role.SCALE, init=nn.init.zeros_)

    def embed(self, ids: Tensor) -> Tensor:
        """(B, T) ids -> (B, T, D) fp32."""
        return self.into(F.embedding(ids, self.weight))

    def onto_table(self, gradient: Tensor) -> Tensor:
        """(..., D) gradient by what `embed` gives -> (..., rank) by the looked-up rows: what calibration asks."""
        return gradient @ self.into.weight.to(gradient.dtype)

    def before_head(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, rank)."""
        return self.back(x)

    def head_weight(self) -> Tensor:
        """(V, rank)."""
        return self.weight

    def head_bias(self) -> Tensor | None:
        """(V) in fp32, if tokens have one."""
        return self.bias if self.biased else None
