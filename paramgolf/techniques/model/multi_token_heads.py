"""Multi-token prediction with heads of its own (`multi_token_heads`): further heads fit the tokens after the next.

    loss = mean(nats) + weight / K · Σ_k mean over targets of −log softmax(H_k x)[token t + 1 + k],  k = 1..K

H_k is (V, D), starts at zero and is stepped with the head's rate; x is what the model's own head reads. The heads serve
training alone: no artifact holds them, and scoring does not run them. A token beyond a document's start is no target.
Source: arXiv 2404.19737; an option of PR #549 (`MTP_NUM_HEADS`, weight 0.2). Effect: +0.006 to +0.028 bpb, every time
it was tried (#549's lineage, the ternary record): at 36 M weights the next token needs all of them.
Cost: for each head V·D weights while training, a product as large as the head's and its logits in fp32.
Pitfalls: the logits of these heads are not capped. `multi_token` does it without weights and fades out.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from paramgolf.batch import Batch
from paramgolf.model.slots import Dims, HeadModule
from paramgolf.parts import Part, Role
from paramgolf.registry import technique
from paramgolf.techniques.model.multi_token import later_targets


@technique(
    "multi_token_heads",
    fills="model.objective",
    source="arXiv 2404.19737; PR #549 (option)",
    effect="+0.006 to +0.028",
)
@dataclass(frozen=True, kw_only=True)
class MultiTokenHeads:
    """Costs of tokens after the next, each by a head of its own that is not kept."""

    heads: int = 1
    """How many tokens after the next are predicted."""
    weight: float = 0.2
    """Of the mean over these heads, beside the next token's cost."""

    def __post_init__(self) -> None:
        if self.heads < 1 or self.weight <= 0:
            raise ValueError(f"heads={self.heads}, weight={self.weight}: give at least one head and a positive weight")

    def build(self, dims: Dims) -> nn.Module:
        """The heads."""
        return HeadsAhead(dims.vocab, dims.dim, self)


class HeadsAhead(Part):
    """K heads (K, V, D) beside the model's own."""

    training_only = True
    head: nn.Parameter

    def __init__(self, vocab: int, dim: int, config: MultiTokenHeads) -> None:
        super().__init__()
        self.config = config
        self.param("head", config.heads, vocab, dim, role=Role.HEAD, init=nn.init.zeros_)

    def forward(self, x: Tensor, head: HeadModule, batch: Batch) -> Tensor:
        """(B, T, D) -> scalar."""
        wanted, counted = later_targets(batch.targets, self.config.heads)
        costs = []
        for ahead, weight in enumerate(self.head.unbind(), 1):
            logits = F.linear(x, weight.to(x.dtype)).float().flatten(0, 1)
            nats = F.cross_entropy(logits, wanted[..., ahead].flatten(), reduction="none")
            known = counted[..., ahead].flatten()
            costs.append((nats * known).sum() / known.sum().clamp_min(1))
        return head.nats(x, batch.targets).mean() + self.config.weight * torch.stack(costs).mean()
