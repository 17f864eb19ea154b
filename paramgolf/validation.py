"""The validation split of a run, and the scoring of models on it."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from paramgolf.batch import Batch
from paramgolf.data.dataset import Dataset
from paramgolf.data.validation import validation_stream
from paramgolf.evaluate.documents import Documents
from paramgolf.evaluate.evaluation import Contiguous, Evaluation, evaluate
from paramgolf.evaluate.slots import Bench, EvaluationProtocol
from paramgolf.events import Events
from paramgolf.model.gpt import GPT
from paramgolf.run import Run
from paramgolf.train.distributed import Place


@dataclass(frozen=True, kw_only=True)
class Validation:
    """The whole split with the bytes each target stands for, checked against decoding."""

    run: Run
    place: Place
    events: Events
    tokens: Tensor
    """(N,) int64."""
    target_bytes: Tensor
    """(N - 1,) int32."""

    @staticmethod
    def of(run: Run, dataset: Dataset, place: Place, events: Events) -> "Validation":
        """Read the split of `dataset`. Raises `DataError` when table and decoding disagree on the bytes."""
        stream = validation_stream(dataset.val, dataset.tokenizer, sidecars=dataset.val_bytes)
        tokens = torch.from_numpy(stream.tokens.astype("int64"))
        return Validation(
            run=run, place=place, events=events, tokens=tokens, target_bytes=torch.from_numpy(stream.target_bytes)
        )

    @property
    def plain(self) -> EvaluationProtocol:
        """Scoring as training sees the text: by document after packed rows, else windows side by side."""
        return Documents() if self.run.data.loader.packed else Contiguous()

    @property
    def batch_tokens(self) -> int:
        """Tokens of a forward pass: where they are one row, no more than the model takes."""
        most = self.run.evaluate.batch_tokens
        return min(most, self.run.model.context) if self.run.data.loader.packed else most

    def score(self, model: GPT, protocol: EvaluationProtocol) -> Evaluation:
        """Score `model` on the whole split under `protocol`; every rank gets the sum over ranks."""
        on_gpu = self.place.device.type == "cuda"
        forward: Callable[[Batch], Tensor] = model
        if on_gpu and self.run.train.compile:
            forward = torch.compile(model, dynamic=False)
        bench = Bench(
            forward=forward,
            tokens=self.tokens,
            context=self.run.train.seq_len,
            device=self.place.device,
            batch_tokens=self.batch_tokens,
            rank=self.place.rank,
            world=self.place.world,
        )
        return evaluate(
            protocol, bench, self.target_bytes, reduce=self.place.sum_on_host, told=Reporter(self.events, protocol)
        )


class Reporter:
    """Tells the share that has been scored, at most a hundred times."""

    def __init__(self, events: Events, protocol: EvaluationProtocol) -> None:
        self.events = events
        self.what = type(protocol).__name__.lower()
        self.told = 0.0

    def __call__(self, share: float) -> None:
        if share - self.told >= 0.01:
            self.told = share
            self.events.say("scoring", what=self.what, share=share)
