"""From the residual to costs, with whatever reworks the logits in between."""

from collections.abc import Callable, Sequence

from torch import Tensor
from torch.nn import functional as F

from paramgolf.batch import Batch
from paramgolf.evaluate.slots import LanguageModel, LogitRework


def reworked_nats(
    model: LanguageModel, x: Tensor, targets: Tensor, positions: Tensor, on_logits: Sequence[LogitRework]
) -> Tensor:
    """(B, T, D) of `hidden` -> (B, T) fp32 cost of each target after all reworks of the logits."""
    if not on_logits:
        return model.nats(x, targets)
    logits = model.logits(x)
    for rework in on_logits:
        logits = rework(logits, positions)
    # Whatever the reworks made of them, these are costs under one distribution over the whole vocabulary.
    costs = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")
    return costs.view(targets.shape)


def places_told(model: LanguageModel, on_logits: Sequence[LogitRework]) -> Callable[[Batch, Tensor], Tensor]:
    """The forward pass of `model` with reworked logits: batch and (B, T) places of its targets -> (B, T) fp32 nats."""

    def costs(batch: Batch, positions: Tensor) -> Tensor:
        return reworked_nats(model, model.hidden(batch), batch.targets, positions, on_logits)

    return costs
