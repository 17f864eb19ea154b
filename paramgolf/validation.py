"""The validation split of a run, and the scoring of models on it."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from paramgolf.data.dataset import Dataset
from paramgolf.data.validation import validation_stream
from paramgolf.evaluate.evaluation import Evaluation, evaluate
from paramgolf.evaluate.readout import places_told
from paramgolf.evaluate.slots import Bench, EvaluationProtocol, OnLogits, uncompiled
from paramgolf.events import Events
from paramgolf.model.gpt import GPT
from paramgolf.run import Run
from paramgolf.train.distributed import Place, average_over_ranks


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
    def batch_tokens(self) -> int:
        """Tokens of a forward pass: where they are one row, no more than the model takes."""
        most = self.run.evaluate.batch_tokens
        return min(most, self.run.model.context) if self.run.data.loader.packed else most

    def final(self, model: GPT, left: Callable[[], float] = lambda: math.inf) -> Evaluation:
        """Score `model` as the run's configuration says; `left` gives the seconds a strict evaluation still has.

        A protocol that adapts leaves the weights as it found them.
        """
        return self.score(model, self.run.evaluate.protocol, on_logits=self.run.evaluate.on_logits, left=left)

    def score(
        self,
        model: GPT,
        protocol: EvaluationProtocol,
        *,
        on_logits: tuple[OnLogits, ...] = (),
        left: Callable[[], float] = lambda: math.inf,
    ) -> Evaluation:
        """Score `model` on the whole split under `protocol`; every rank gets the sum over ranks."""
        place, compiles = self.place, self.place.device.type == "cuda" and self.run.train.compile
        compiled = compiled_for_scoring if compiles else uncompiled
        reworks = tuple(filler.prepare(self.tokens, place.device) for filler in on_logits)
        bench = Bench(
            forward=compiled(model, dynamic=False),
            tokens=self.tokens,
            context=self.run.train.seq_len,
            device=place.device,
            batch_tokens=self.batch_tokens,
            rank=place.rank,
            world=place.world,
            model=model,
            longest_row=self.run.model.context,
            at=compiled(places_told(model, reworks), dynamic=False) if reworks else None,
            on_logits=reworks,
            compiled=compiled,
            average=partial(average_over_ranks, world=place.world),
            total=place.sum_on_host,
            left=left,
        )
        told = Reporter(self.events, protocol)
        with many_graphs() if compiles else nullcontext():
            return evaluate(protocol, bench, self.target_bytes, reduce=place.sum_on_host, told=told)


def compiled_for_scoring(function: Any, *, dynamic: bool) -> Any:
    """`torch.compile`: a graph for each shape, or one for all where shapes are many (`dynamic`)."""
    return torch.compile(function, dynamic=dynamic)


@contextmanager
def many_graphs() -> Iterator[None]:
    """Settings of the compiler for scoring.

    Test-time training meets more shapes than torch's limit on graphs of one function, beyond which it gives up; and a
    window that happens to be as long as some layer is wide must not be taken for one that always is.
    """
    from torch._dynamo import config as dynamo
    from torch.fx.experimental import _config as shapes

    patches: tuple[Any, Any] = (dynamo, shapes)
    with (
        patches[0].patch(recompile_limit=64, accumulated_recompile_limit=512),
        patches[1].patch(use_duck_shape=False),
    ):
        yield


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
