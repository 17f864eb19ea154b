"""The protocol by which anything that scores text can be judged: two methods, `begin` and `predict`.

    predictor.begin(stream)            a fresh pass; whatever an earlier pass taught is forgotten
    for part in predictor.predict(asked):
        part.positions, part.nats      targets whose cost is now final, in the order in which they become final
        part.logprobs                  for asked targets, the whole distribution that the cost was taken from

Targets are numbered from 0: target i is token i + 1 of the stream. The order of the parts is what "score before
update" is judged by, so a predictor that learns yields what it scored before it learns from it. Distributions are
optional: where there are none the judge puts every token of the vocabulary in the target's place, a pass for each.

Optional attributes: `isolated = True` claims that documents do not see one another; `target_bytes(tokens)` gives the
bytes that each target is counted as; `context` is the row length of a script that drops the tail of the stream.
`examples/verify_predictor.py` has a small adapter.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from paramgolf.batch import BOS

Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]

NO_LOGPROBS: Mapping[int, Doubles] = {}


class TokenStream(NamedTuple):
    """What is to be scored."""

    tokens: Ints
    """(N,) ids; the first is no target."""
    vocab: int

    @property
    def starts(self) -> Ints:
        """Places of BOS, where documents begin."""
        return np.flatnonzero(self.tokens == BOS)

    @property
    def targets(self) -> int:
        """How many targets there are."""
        return len(self.tokens) - 1


class Predicted(NamedTuple):
    """Targets whose cost has become final together."""

    positions: Ints
    """(K,) targets, numbered from 0."""
    nats: Doubles
    """(K,) cost of each, nats."""
    logprobs: Mapping[int, Doubles] = NO_LOGPROBS
    """Target -> (vocab,) log-probabilities in nats, for targets that were asked for."""


class Predictor(Protocol):
    """Anything that scores a stream."""

    def begin(self, stream: TokenStream) -> None:
        """Start a pass over `stream`, as if it were the first."""

    def predict(self, asked: frozenset[int]) -> Iterator[Predicted]:
        """Score every target once; for those in `asked` give the distribution too, if that can be had."""
        ...
