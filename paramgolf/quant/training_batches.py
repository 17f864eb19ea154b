"""Calibration on training text: the first batches of the run's own loader.

Source: quantization catalogue Q5: 16 batches of 98,304 tokens a device in PR #1855, 64 in #1394.
Effect: 32 batches instead of 16: −0.00019 (PR #2135). Reading training text counts as training (rules R4): its seconds
are added to those of the run, which `train.reserve_seconds` keeps free.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import ClassVar

from paramgolf.batch import Batch
from paramgolf.quant.slots import CalibratedModel
from paramgolf.registry import technique


@technique("training_batches", fills="quant.calibration", source="PRs #1394 #1855")
@dataclass(frozen=True, kw_only=True)
class TrainingBatches:
    """Calibrate on batches of the training loader."""

    reads_training_text: ClassVar[bool] = True

    batches_read: int = 16
    """Batches of each rank; a batch is what a device holds at once in training."""

    def __post_init__(self) -> None:
        if self.batches_read < 1:
            raise ValueError(f"calibration on {self.batches_read} batches measures nothing")

    def batches(self, model: CalibratedModel, training: Iterator[Batch]) -> Iterator[Batch]:
        """The first of `training`."""
        return islice(training, self.batches_read)
