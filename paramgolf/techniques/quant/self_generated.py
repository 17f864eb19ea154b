"""Self-generated calibration: the model samples the text whose inputs the Hessians are summed over.

    x_{t+1} ~ softmax(logits(x_1 … x_t) / T),   x_1 = the start of a document

Source: PR #1019: 64 sequences of 2,048 tokens at T = 0.8. Needs no data after training, so that no rule is touched.
Effect: 1.1148 where validation text gives 1.1145 and random tokens 1.1165 (#1019).
Cost: one forward pass a token, each over the whole row so far: 186 to 210 s on the contest's machine. Inside the 600 s
that is 30 % of the steps (+0.028, #1234): training text read in time is better where it is allowed.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from paramgolf.batch import BOS, Batch
from paramgolf.quant.slots import CalibratedModel
from paramgolf.registry import technique

SAMPLED_STEP = 64
"""Tokens by which the row that is read grows."""


@technique("self_generated", fills="quant.calibration", source="PR #1019", effect="+0.0003 against validation text")
@dataclass(frozen=True, kw_only=True)
class SelfGenerated:
    """Calibrate on text of the model's own."""

    reads_training_text: ClassVar[bool] = False

    sequences: int = 64
    """Rows that are sampled."""
    length: int = 2048
    """Tokens of each, the start of the document included."""
    temperature: float = 0.8
    """Divides the logits."""
    together: int = 16
    """Rows that are sampled side by side."""
    seed: int = 0
    """Of the sampling, the same on every rank."""

    def __post_init__(self) -> None:
        if min(self.sequences, self.together) < 1 or self.length < 2 or self.temperature <= 0:
            raise ValueError(
                f"sequences={self.sequences}, together={self.together}, length={self.length} or "
                f"temperature={self.temperature} leaves nothing to sample"
            )

    def batches(self, model: CalibratedModel, training: Iterator[Batch]) -> Iterator[Batch]:
        """The sampled rows, `together` at a time; `training` is not read."""
        generator = torch.Generator().manual_seed(self.seed)
        device = next(parameter for module in model.modules() for parameter in module.parameters()).device
        for first in range(0, self.sequences, self.together):
            ids = self.sampled(model, min(self.together, self.sequences - first), generator, device)
            yield Batch(ids[:, :-1], ids[:, 1:])

    @torch.no_grad()
    def sampled(self, model: CalibratedModel, rows: int, generator: torch.Generator, device: torch.device) -> Tensor:
        """(rows, length) int64 ids."""
        ids = torch.full((rows, self.length), BOS, device=device)
        for place in range(1, self.length):
            # What comes later is not looked at. Kernels of attention are chosen by length, and none takes a row of one.
            read = ids[:, : min(-(-place // SAMPLED_STEP) * SAMPLED_STEP, self.length)]
            logits = model.logits(model.hidden(Batch(read, read))[:, place - 1 : place])[:, 0]
            shares = torch.softmax(logits / self.temperature, -1).cpu()
            ids[:, place] = torch.multinomial(shares, 1, generator=generator)[:, 0].to(device)
        return ids
