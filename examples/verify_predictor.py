"""A predictor for `paramgolf verify`: order-2 counts of already scored tokens, mixed with a uniform distribution.

python -m paramgolf data prepare stdlib --variant byte260 --out data/example
cd examples && python -m paramgolf verify verify_predictor:Counts --data ../data/example

The protocol has two methods. `begin` starts a pass and forgets everything; `predict` yields targets with their costs in
the order in which these become final, and the whole distribution for the targets that the judge asks for. What is
learned, is learned after the `yield`: then nothing can reach its own score.
"""

from collections import defaultdict
from collections.abc import Iterator

import numpy as np

from paramgolf.verify.predictor import Predicted, TokenStream

CHUNK = 64
"""Targets that are scored before anything is learned from them."""
TRUST = 2.0
"""How many counts weigh as much as the uniform distribution."""


class Counts:
    """p(v) = (counts of v after the two tokens before + TRUST / V) / (all counts there + TRUST)."""

    def begin(self, stream: TokenStream) -> None:
        self.stream = stream
        self.counts: dict[tuple[int, int], dict[int, int]] = defaultdict(lambda: defaultdict(int))

    def context(self, target: int) -> tuple[int, int]:
        before = self.stream.tokens[max(0, target - 1) : target + 1].tolist()
        return before[0], before[-1]

    def logprobs(self, target: int) -> np.ndarray:
        row = np.full(self.stream.vocab, TRUST / self.stream.vocab)
        known = self.counts.get(self.context(target), {})
        for token, count in known.items():
            row[token] += count
        return np.log(row / (sum(known.values()) + TRUST))

    def predict(self, asked: frozenset[int]) -> Iterator[Predicted]:
        for start in range(0, self.stream.targets, CHUNK):
            places = np.arange(start, min(start + CHUNK, self.stream.targets))
            rows = {int(place): self.logprobs(int(place)) for place in places}
            nats = np.array([-rows[int(place)][self.stream.tokens[place + 1]] for place in places])
            yield Predicted(places, nats, {place: row for place, row in rows.items() if place in asked})
            for place in places.tolist():
                self.counts[self.context(place)][int(self.stream.tokens[place + 1])] += 1

    def target_bytes(self, tokens: np.ndarray) -> np.ndarray:
        """How byte260 counts: every id from 4 on is one byte."""
        return (tokens[1:] >= 4).astype(np.int64)
