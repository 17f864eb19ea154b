"""Predictors that count what they have scored: n-grams, normalized and not."""

from collections import defaultdict

import numpy as np
import torch
from planted import VOCAB, Rows
from torch import Tensor

from paramgolf.verify.predictor import Predicted, TokenStream


class Counting(Rows):
    """Counts pairs of a context of two tokens and the token behind it, after they were scored."""

    telling = False
    rows = 1

    def begin(self, stream: TokenStream) -> None:
        super().begin(stream)
        self.pairs: dict[int, int] = defaultdict(int)
        self.contexts: dict[int, int] = defaultdict(int)

    def key(self, place: int) -> int:
        return int(self.tokens[max(place - 1, 0)]) * 1031 + int(self.tokens[place])

    def learn(self, places: Tensor) -> None:
        for place in np.unique(places.numpy()).tolist():
            self.pairs[self.pair(self.key(place), int(self.tokens[place + 1]))] += 1
            self.contexts[self.context(self.key(place))] += 1

    def pair(self, key: int, token: int) -> int:
        return key * 2**20 + token

    def context(self, key: int) -> int:
        return key


class NormalizedNgram(Counting):
    """Twin: the counts of every token behind the context, mixed in as a distribution."""

    telling = True
    share = 0.4

    def mixed(self, place: int, row: Tensor) -> Tensor:
        """(V,) log-probabilities of the model -> of the mixture."""
        key = self.key(place)
        total = self.contexts.get(self.context(key), 0)
        if not total:
            return row
        counts = torch.tensor([self.pairs.get(self.pair(key, token), 0) for token in range(VOCAB)]).double()
        return torch.log((1 - self.share) * row.exp() + self.share * counts / total)

    def logprobs(self, places: Tensor) -> Tensor:
        rows = super().logprobs(places)
        return torch.stack([torch.stack([self.mixed(int(p), r) for p, r in zip(*pair)]) for pair in zip(places, rows)])


class HashedNgram(Counting):
    """Counts in hash tables with collisions, the ratio taken for the realized token alone."""

    buckets = 8

    def pair(self, key: int, token: int) -> int:
        return (key * 31 + token * 17) % self.buckets

    def context(self, key: int) -> int:
        return key % self.buckets

    def predicted(self, places: Tensor, logprobs: Tensor, asked: frozenset[int]) -> Predicted:
        part = super().predicted(places, logprobs, asked)
        mixed = []
        for place, nats in zip(part.positions.tolist(), part.nats.tolist()):
            key = self.key(place)
            total = self.contexts.get(self.context(key), 0)
            ratio = min(1.0, self.pairs.get(self.pair(key, int(self.tokens[place + 1])), 0) / total) if total else 0.0
            mixed.append(-np.log(0.6 * np.exp(-nats) + 0.4 * ratio) if total else nats)
        return Predicted(part.positions, np.array(mixed))


class TargetInKey(NormalizedNgram):
    """How much the cache counts is decided by whether it knows the target."""

    def mixed(self, place: int, row: Tensor) -> Tensor:
        known = self.pairs.get(self.pair(self.key(place), int(self.tokens[place + 1])), 0)
        self.share = 0.9 if known else 0.01
        return super().mixed(place, row)
