"""Predictors that learn from what they score, or from what they have not scored yet."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from planted import ROW, VOCAB, Rows
from torch import Tensor

from paramgolf.batch import BOS
from paramgolf.verify.predictor import Predicted, TokenStream


class Biased(Rows):
    """Learns a bias on the logits; subclasses say from what and when."""

    rate = 3.0

    def begin(self, stream: TokenStream) -> None:
        super().begin(stream)
        self.bias = torch.zeros(VOCAB)

    def step(self, places: Tensor, steps: int = 1) -> None:
        """Gradient descent on the mean cost of `places`."""
        targets = self.tokens[places + 1]
        logits = self.logits(self.tokens[places])
        for _ in range(steps):
            wanted = F.one_hot(targets, VOCAB).float().mean((0, 1))
            self.bias += self.rate * (wanted - F.softmax(logits + self.bias, -1).mean((0, 1)))

    def logprobs(self, places: Tensor) -> Tensor:
        return F.log_softmax(self.logits(self.tokens[places]) + self.bias, -1).double()


class ScoreThenTrain(Biased):
    """Honest test-time training: what was scored is learned from."""

    def learn(self, places: Tensor) -> None:
        self.step(places)


class TrainThenScore(Biased):
    """Learns from a part, then scores that part."""

    def logprobs(self, places: Tensor) -> Tensor:
        self.step(places)
        return super().logprobs(places)


class TrainedOnAll(Biased):
    """Test-time training on the whole stream before any of it is scored."""

    def begin(self, stream: TokenStream) -> None:
        super().begin(stream)
        for places in self.parts():
            self.step(places)


class RescoredPass(Biased):
    """Two passes, each learning as it should; the scores of the second count, those of the first are kept quiet."""

    def predict(self, asked: frozenset[int]) -> Iterator[Predicted]:
        for places in self.parts():
            super().logprobs(places)
            self.step(places)
        yield from super().predict(asked)


class ScoredTwice(ScoreThenTrain):
    """The same, both passes said."""

    def predict(self, asked: frozenset[int]) -> Iterator[Predicted]:
        yield from super().predict(asked)
        yield from super().predict(asked)


class Slot(Biased):
    """A bias fitted on each window, thrown away after it has scored that window."""

    rows = 1

    def logprobs(self, places: Tensor) -> Tensor:
        self.bias = torch.zeros(VOCAB)
        self.step(places, steps=4)
        return super().logprobs(places)


class CausalSlot(Slot):
    """Twin: fitted on the first half, which was scored without it, for the second."""

    def logprobs(self, places: Tensor) -> Tensor:
        half = places.shape[1] // 2
        self.bias = torch.zeros(VOCAB)
        first = Rows.logprobs(self, places)
        self.step(places[:, :half], steps=4)
        second = Biased.logprobs(self, places)
        return torch.cat((first[:, :half], second[:, half:]), 1)


class LongestFirst(Biased):
    """Documents longest first, the learning carried from one to the next: as the records serve them."""

    def parts(self) -> Iterator[Tensor]:
        starts = torch.cat(((self.tokens == BOS).nonzero().flatten(), torch.tensor([self.targets]))).unique()
        spans = sorted(zip(starts.tolist(), starts.tolist()[1:]), key=lambda span: span[0] - span[1])
        for first, last in spans:
            for start in range(first, last, ROW):
                yield torch.arange(start, min(start + ROW, last))[None]

    def learn(self, places: Tensor) -> None:
        self.step(places)


class Remembering(Biased):
    """Does not forget at the beginning of a pass."""

    def begin(self, stream: TokenStream) -> None:
        kept = getattr(self, "bias", torch.zeros(VOCAB))
        super().begin(stream)
        self.bias = kept

    def learn(self, places: Tensor) -> None:
        self.step(places)
