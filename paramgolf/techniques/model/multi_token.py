"""Multi-token prediction without parameters: the same logits must also fit the tokens after the next.

    loss = mean(nats) + Σ_k w_k(progress) · mean over targets of −log p(token t + 1 + k | ≤ t)

The weights fall one after another, the farthest first, each linearly in its share of the first `until` of training:
with (½, ¼) the ¼ falls to 0 in the first third, the ½ in the second. A token beyond a document's start is no target.
Every weight that reaches 0 leaves the compiled graph (one more compilation each).
Source: KellerJordan/modded-nanogpt; arXiv 2404.19737. Effect: −80 of about 2,000 steps there; untried in the contest.
Cost: one gather a token ahead; the logits are made once.
Pitfall: forms with heads of their own were negative (`multi_token_heads`).
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from paramgolf.batch import BOS, Batch
from paramgolf.model.slots import Dims, HeadModule
from paramgolf.parts import Part
from paramgolf.registry import technique


@technique(
    "multi_token", fills="model.objective", source="KellerJordan/modded-nanogpt; arXiv 2404.19737", effect="-4 % steps"
)
@dataclass(frozen=True, kw_only=True)
class MultiToken:
    """Costs of several tokens ahead."""

    weights: tuple[float, ...] = (0.5, 0.25)
    """Of the token after the next, the one after that and so on, at the start."""
    until: float = 2 / 3
    """Share of training after which only the next token counts."""

    def __post_init__(self) -> None:
        if not self.weights or min(self.weights) <= 0:
            raise ValueError(f"weights={self.weights}: give at least one, all positive")
        if not 0 < self.until <= 1:
            raise ValueError(f"until={self.until} is no share of training")

    @property
    def switches(self) -> tuple[float, ...]:
        """When a weight reaches zero, ascending."""
        return tuple(self.until * (stage + 1) / len(self.weights) for stage in range(len(self.weights)))

    def build(self, dims: Dims) -> nn.Module:
        """The objective has no parameters."""
        return AheadCost(self)

    def at(self, progress: float) -> tuple[float, ...]:
        """The weights in force, those at zero left out."""
        stage = sum(progress >= switch for switch in self.switches)
        left = list(self.weights[: len(self.weights) - stage])
        if left:
            left[-1] *= 1 - (progress * len(self.weights) / self.until - stage)
        return tuple(left)


class AheadCost(Part):
    """Weighted costs from one set of logits."""

    weights: Tensor

    def __init__(self, config: MultiToken) -> None:
        super().__init__()
        self.config = config
        self.ahead = len(config.weights)
        self.register_buffer("weights", torch.tensor(config.weights), persistent=False)

    def at(self, progress: float) -> None:
        """The weights are data of the graph, how many there are is its shape."""
        left = self.config.at(progress)
        self.ahead = len(left)
        for place, weight in enumerate(left):
            self.weights[place].fill_(weight)

    def forward(self, x: Tensor, head: HeadModule, batch: Batch) -> Tensor:
        """(B, T, D) -> scalar."""
        if not self.ahead:
            return head.nats(x, batch.targets).mean()
        logits = head.logits(x)
        normalizer = logits.logsumexp(-1)
        wanted, counted = later_targets(batch.targets, self.ahead)
        costs = (normalizer.unsqueeze(-1) - logits.gather(-1, wanted)) * counted
        means = costs.sum((0, 1)) / counted.sum((0, 1)).clamp_min(1)
        return means[0] + (self.weights[: self.ahead] * means[1:]).sum()


def later_targets(targets: Tensor, ahead: int) -> tuple[Tensor, Tensor]:
    """(B, T) targets -> (B, T, 1 + ahead) those of the next tokens, and whether each is in the row and document.

    A document's start may be the last thing predicted; nothing after it is.
    """
    found, counted = [targets], [torch.ones_like(targets, dtype=torch.bool)]
    for _ in range(ahead):
        inside = (found[-1] != BOS) & counted[-1]
        inside[:, -len(found) :] = False
        counted.append(inside)
        found.append(torch.cat((found[-1][:, 1:], found[-1][:, -1:]), 1))
    return torch.stack(found, -1), torch.stack(counted, -1)
