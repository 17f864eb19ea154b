"""z-loss: training also keeps the softmax's normalizer near one.

    loss = mean(nats) + weight · mean(logsumexp(logits)²)

Stops all logits from drifting together, which low precision does not bear.
Source: PaLM, arXiv 2204.02311; the ternary record (1e-4). Effect: not measured alone. Cost: one pass over the logits,
which the fused loss then cannot spare.
Pitfalls: the training loss that is told contains it; the score never does.
"""

from dataclasses import dataclass

from torch import Tensor, nn

from paramgolf.batch import Batch
from paramgolf.model.slots import Dims, HeadModule
from paramgolf.registry import technique


@technique("z_loss", fills="model.objective", source="arXiv 2204.02311; ternary record", effect="not measured alone")
@dataclass(frozen=True, kw_only=True)
class ZLoss:
    """Mean cost and squared normalizer."""

    weight: float = 1e-4
    """Of the squared normalizer."""

    def build(self, dims: Dims) -> nn.Module:
        """The objective has no parameters."""
        return NormalizerCost(self.weight)


class NormalizerCost(nn.Module):
    """Mean cost and squared normalizer, from one set of logits."""

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, x: Tensor, head: HeadModule, batch: Batch) -> Tensor:
        """(B, T, D) -> scalar."""
        logits = head.logits(x)
        normalizer = logits.logsumexp(-1)
        chosen = logits.gather(-1, batch.targets.unsqueeze(-1)).squeeze(-1)
        return (normalizer - chosen).mean() + self.weight * normalizer.square().mean()
