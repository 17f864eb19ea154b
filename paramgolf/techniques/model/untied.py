"""Untied head: the output projection is a matrix of its own.

    x = E[id],   logits = H x              E: (V, D), H: (V, D), H starts at 0, so the first loss is ln V

Source: the baseline's option. Effect: little gain for V·D more weights at V ≤ 8,192; kept by no record.
Cost: V·D parameters. Learning rates apart: 0.6 for the embedding, 0.008 for the head in the baseline.
Pitfalls: the rate of a tied embedding (0.03 to 0.05) is far too low for this one; both matrices count in the artifact.
"""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from paramgolf.bounds import require_not_negative
from paramgolf.model.slots import Dims, EmbeddingModule
from paramgolf.parts import Part, Role, normal
from paramgolf.registry import technique


@technique("untied", fills="model.embedding", source="baseline (off)", effect="none worth its bytes")
@dataclass(frozen=True, kw_only=True)
class UntiedEmbedding:
    """An embedding and a head."""

    std: float = 0.005
    """Standard deviation of the embedding at the start."""
    head_std: float = 0.0
    """Standard deviation of the head at the start; 0: zeros."""

    def __post_init__(self) -> None:
        require_not_negative(self, "std", "head_std")

    def build(self, dims: Dims) -> EmbeddingModule:
        """The two matrices."""
        return UntiedModule(dims.vocab, dims.dim, self.std, self.head_std)


class UntiedModule(Part):
    """Two (V, D) matrices."""

    weight: nn.Parameter
    head: nn.Parameter

    def __init__(self, vocab: int, dim: int, std: float, head_std: float) -> None:
        super().__init__()
        self.param("weight", vocab, dim, role=Role.EMBED, init=normal(std))
        self.param("head", vocab, dim, role=Role.HEAD, init=normal(head_std))

    def embed(self, ids: Tensor) -> Tensor:
        """(B, T) ids -> (B, T, D) fp32."""
        return F.embedding(ids, self.weight)

    def before_head(self, x: Tensor) -> Tensor:
        """Nothing stands between the last norm and the head."""
        return x

    def head_weight(self) -> Tensor:
        """(V, D)."""
        return self.head

    def head_bias(self) -> Tensor | None:
        """None."""
        return None
