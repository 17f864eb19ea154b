"""Token embedding and output projection."""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from paramgolf.bounds import require_not_negative
from paramgolf.model.slots import Dims
from paramgolf.parts import Part, Role, normal
from paramgolf.registry import technique


@technique("tied", fills="model.embedding", source="arXiv 1608.05859")
@dataclass(frozen=True, kw_only=True)
class TiedEmbedding:
    """One matrix embeds tokens and projects to logits."""

    std: float = 0.005
    """Standard deviation at the start (baseline)."""

    def __post_init__(self) -> None:
        require_not_negative(self, "std")

    def build(self, dims: Dims) -> "TiedModule":
        """The (V, D) matrix."""
        return TiedModule(dims.vocab, dims.dim, self.std)


class TiedModule(Part):
    """An embedding whose matrix is also the head."""

    weight: nn.Parameter

    def __init__(self, vocab: int, dim: int, std: float) -> None:
        super().__init__()
        self.param("weight", vocab, dim, role=Role.EMBED, init=normal(std))

    def embed(self, ids: Tensor) -> Tensor:
        """(B, T) ids -> (B, T, D) fp32."""
        return F.embedding(ids, self.weight)

    def before_head(self, x: Tensor) -> Tensor:
        """Nothing stands between the last norm and the head."""
        return x

    def head_weight(self) -> Tensor:
        """(V, D)."""
        return self.weight

    def head_bias(self) -> Tensor | None:
        """None."""
        return None
