"""One pass of a predictor over a stream, and the streams it is probed with."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from paramgolf.batch import BOS
from paramgolf.errors import GolfError
from paramgolf.verify.predictor import Doubles, Ints, Predictor, TokenStream

NEVER = -1
OUTSIDE_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    NotImplementedError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What the code of others raises when it cannot cope with a stream."""


class OnePass(NamedTuple):
    """What a predictor said of a stream of T targets."""

    nats: Doubles
    """(T,) cost that was said last; NaN where there was none."""
    counts: Ints
    """(T,) how often each target was scored."""
    order: Ints
    """(T,) number of the part in which each was scored first; `NEVER` where it was not."""
    logprobs: dict[int, Doubles]
    outside: tuple[int, ...]
    """Positions that are no targets of the stream, the first few."""


def one_pass(predictor: Predictor, stream: TokenStream, asked: Iterable[int] = ()) -> OnePass:
    """Run `predictor` over `stream` from a fresh start.

    Raises `GolfError` when it fails, or yields what does not have the shape of the protocol.
    """
    try:
        return gathered_pass(predictor, stream, frozenset(asked))
    except GolfError:
        raise
    except OUTSIDE_ERRORS as error:
        raise GolfError(
            "the predictor fails on a stream",
            evidence=f"{stream.targets:,} targets: {type(error).__name__}: {str(error)[:300]}",
            fix="a predictor has to score any stream of at least two tokens, one shortened or changed too",
        ) from error


def gathered_pass(predictor: Predictor, stream: TokenStream, asked: frozenset[int]) -> OnePass:
    """`one_pass`, errors of the predictor as they are."""
    targets = stream.targets
    nats = np.full(targets, np.nan)
    counts = np.zeros(targets, np.int64)
    order = np.full(targets, NEVER, np.int64)
    logprobs: dict[int, Doubles] = {}
    outside: list[int] = []
    # The predictor gets its own copy: what it writes into its input must not reach the next pass.
    predictor.begin(TokenStream(stream.tokens.copy(), stream.vocab))
    for number, part in enumerate(predictor.predict(asked)):
        positions, costs = np.asarray(part.positions, np.int64).ravel(), np.asarray(part.nats, np.float64).ravel()
        if positions.shape != costs.shape:
            raise GolfError(
                "the predictor breaks the protocol: positions and nats differ in length",
                evidence=f"part {number}: {positions.size} positions, {costs.size} costs",
                fix="see paramgolf/verify/predictor.py",
            )
        inside = (positions >= 0) & (positions < targets)
        outside += positions[~inside].tolist()[: 8 - len(outside)]
        positions, costs = positions[inside], costs[inside]
        nats[positions] = costs
        np.add.at(counts, positions, 1)
        fresh = positions[order[positions] == NEVER]
        order[fresh] = number
        logprobs.update({int(i): np.asarray(row, np.float64) for i, row in part.logprobs.items()})
    return OnePass(nats, counts, order, logprobs, tuple(outside))


def replaced_tokens(stream: TokenStream, where: NDArray[np.bool_], seed: int) -> TokenStream:
    """`stream` with other tokens at `where`, drawn from the stream's own; document starts stay as they are.

    Every token at `where` that is no BOS becomes a different one, unless the stream holds a single kind of token.
    """
    tokens = stream.tokens.copy()
    places = np.flatnonzero(where & (tokens != BOS))
    pool = tokens[tokens != BOS]
    random = np.random.Generator(np.random.PCG64(seed))
    for _ in range(8):
        same = places[tokens[places] == stream.tokens[places]]
        if not len(same):
            break
        tokens[same] = pool[random.integers(0, len(pool), len(same))]
    same = places[tokens[places] == stream.tokens[places]]
    kinds = np.unique(pool)
    if len(kinds) > 1:
        tokens[same] = kinds[(np.searchsorted(kinds, tokens[same]) + 1) % len(kinds)]
    return TokenStream(tokens, stream.vocab)


def probe_stream(tokens: Ints, vocab: int, most: int) -> TokenStream:
    """The first documents of a stream, at most about `most` tokens, the last document cut where it must be.

    A stream that is cut ends with a BOS where there is room, so that its last target is a document's end.
    """
    if len(tokens) <= most:
        return TokenStream(tokens.astype(np.int64), vocab)
    starts = np.flatnonzero(tokens[: most + 1] == BOS)
    ends = starts[starts > most // 2]
    stop = int(ends[-1]) + 1 if len(ends) else most
    return TokenStream(tokens[:stop].astype(np.int64), vocab)
