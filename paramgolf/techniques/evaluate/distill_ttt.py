"""Self-distillation test-time training: SGD on scored chunks, held to what the model said before it began to learn.

    cost = (1 − w) · nats + w · τ² · KL(p_teacher ‖ p)        both softened by τ; the teacher is the artifact's model

The chunks are those of sgd_ttt. The teacher's soft targets keep the weights from running after single chunks.
Source: seed 001's self-distillation TTT; Hinton et al. 2015, arXiv 1503.02531.
Effect: none published. Cost: sgd_ttt's, and the teacher's forward pass for everything learned from.
Pitfall: w = 1 learns nothing at first, since the student is the teacher.
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from paramgolf.batch import Batch
from paramgolf.evaluate.adapters import kept_weights
from paramgolf.evaluate.descent import Descent
from paramgolf.evaluate.score import Forward, Scored
from paramgolf.evaluate.slots import Bench, LanguageModel
from paramgolf.evaluate.stream_training import StreamTraining, train_along
from paramgolf.registry import technique


@technique("distill_ttt", fills="evaluate.protocol", source="seed 001; arXiv 1503.02531")
@dataclass(frozen=True, kw_only=True)
class DistillTTT(StreamTraining):
    """SGD on all weights towards both the text and the model as it was."""

    adapts: ClassVar[bool] = True

    weight: float = 0.5
    """Of the teacher, 0..1."""
    temperature: float = 1.0
    """Softens teacher and student."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.weight <= 1 or self.temperature <= 0:
            raise ValueError(f"weight={self.weight} is not in 0..1, or temperature={self.temperature} is not positive")

    def __call__(self, bench: Bench) -> Iterator[Scored]:
        model = bench.adaptable("distill_ttt")
        teacher: Any = copy.deepcopy(model)
        teacher.requires_grad_(False)
        costs: Forward = bench.compiled(self.costs(model, teacher), dynamic=False)
        with kept_weights(model):
            yield from train_along(bench, self, Descent(bench, model, self, costs))

    def costs(self, model: LanguageModel, teacher: LanguageModel) -> Forward:
        """What is learned from: (R, T) fp32."""
        weight, heat = self.weight, self.temperature

        def blended(batch: Batch) -> Tensor:
            with torch.no_grad():
                wanted = F.log_softmax(teacher.logits(teacher.hidden(batch)) / heat, dim=-1)
            logits = model.logits(model.hidden(batch))
            nats = F.cross_entropy(logits.flatten(0, 1), batch.targets.flatten(), reduction="none")
            said = F.log_softmax(logits / heat, dim=-1)
            apart = F.kl_div(said, wanted, reduction="none", log_target=True).sum(-1)
            return (1 - weight) * nats.view(batch.targets.shape) + weight * heat**2 * apart

        return blended
