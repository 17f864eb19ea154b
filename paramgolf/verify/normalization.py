"""Check 2, normalization: over the whole alphabet the probabilities sum to one, fixed before the target is known.

Where the predictor gives its distributions, each must sum to one, be the same whatever the target turns out to be, and
be what the cost is taken from. Where it gives none, every token of the vocabulary is put in the target's place: those
are exactly the costs that the contest would have counted, after every tilt and mixture.
"""

import time
from typing import NamedTuple

import numpy as np

from paramgolf.verify.passes import OnePass, one_pass
from paramgolf.verify.predictor import Doubles, TokenStream
from paramgolf.verify.probe import Probe
from paramgolf.verify.ruling import Ruling, failed, passed, skipped

NORMALIZATION = "normalization"
SUM_TOLERANCE = 1e-3
"""How far a sum of probabilities may lie from one: fp32 arithmetic leaves about 1e-5."""


class Enumerated(NamedTuple):
    """The probabilities of the tokens in the place of one target."""

    target: int
    total: float
    tried: int
    """Tokens that were tried; all of the vocabulary, or those that `seconds` had room for."""


def check_normalization(probe: Probe, *, places: int = 3, seconds: float = 60.0) -> list[Ruling]:
    """Whether the costs come from distributions over the whole vocabulary, and not from the realized token."""
    cuts = [int(cut) for cut in probe.cut_places()]
    told = [cut for cut in cuts if cut - 1 in probe.base.logprobs]
    if told:
        found = [ruling for cut in told for ruling in judge_distribution(probe, cut)]
        if found:
            return found[:3]
        said = "every distribution sums to one, holds for any target, and is what the cost is taken from"
        return [passed(NORMALIZATION, said, f"targets {', '.join(str(cut - 1) for cut in told)}", "normalization")]
    return judge_enumeration([enumerated(probe, cut, seconds / places) for cut in telling_places(probe, places)], probe)


def judge_distribution(probe: Probe, cut: int) -> list[Ruling]:
    """What is wrong with the distribution of the target at token `cut`, at most one ruling."""
    target, row, vocab = cut - 1, probe.base.logprobs[cut - 1], probe.stream.vocab
    where = f"target {target}"
    if row.shape != (vocab,):
        said = "a distribution does not have an entry for every token"
        return [failed(NORMALIZATION, said, f"{where}: shape {row.shape}, vocabulary {vocab}", "normalization")]
    total = probability_sum(row)
    if not abs(total - 1) <= SUM_TOLERANCE:
        said = "probabilities do not sum to one"
        evidence = f"{where}: they sum to {total:.4f} over {vocab} tokens"
        return [failed(NORMALIZATION, said, evidence, "normalization", "byte_mixture")]
    tried = [
        (probe.base, int(probe.stream.tokens[cut])),
        *(substituted(probe, cut, t) for t in substitutes(probe, cut)),
    ]
    for changed, token in tried:
        other = changed.logprobs.get(target)
        if other is not None and not np.abs(np.exp(other) - np.exp(row)).max() <= SUM_TOLERANCE:
            at = int(np.abs(np.exp(other) - np.exp(row)).argmax())
            said = "the distribution changes with the target it is to predict"
            evidence = f"{where}: the probability of token {at} is {np.exp(row[at]):.4f}, and {np.exp(other[at]):.4f}"
            evidence += f" when the target is {token}"
            return [failed(NORMALIZATION, said, evidence, "target_in_key", "normalization")]
        cost = float(changed.nats[target])
        if not abs(cost + row[token]) <= SUM_TOLERANCE * max(1.0, abs(cost)):
            said = "the cost is not taken from the distribution"
            evidence = f"{where}: token {token} costs {cost:.4f} nats, its probability says {-row[token]:.4f}"
            return [failed(NORMALIZATION, said, evidence, "normalization", "target_in_key")]
    return []


def substitutes(probe: Probe, cut: int) -> list[int]:
    """Tokens to put in place of the one at `cut`: the stream's most frequent, which a gate on a kind of token is most
    likely to tell apart, and one that is another for every cut."""
    frequent = np.argsort(-np.bincount(probe.stream.tokens, minlength=probe.stream.vocab), kind="stable")
    place = [int(other) for other in probe.cut_places()].index(cut)
    others = [int(token) for token in frequent if token != probe.stream.tokens[cut]]
    return list(dict.fromkeys([others[0], others[(1 + place) % len(others)]]))


def substituted(probe: Probe, cut: int, token: int) -> tuple[OnePass, int]:
    """The pass with `token` at `cut` and nothing else changed, and the token."""
    tokens = probe.stream.tokens.copy()
    tokens[cut] = token
    stream = TokenStream(tokens, probe.stream.vocab)
    return probe.named(f"substituted {cut} {token}", stream, frozenset({cut - 1})), token


def telling_places(probe: Probe, most: int) -> list[int]:
    """Tokens to enumerate at: the cheapest targets, which a cache or a look at the answer makes, and one of the cuts.

    All from the first half: an enumeration costs as many passes as there are tokens.
    """
    able = np.array([int(cut) for cut in probe.cut_places()])
    costs = probe.base.nats[: max(2, len(probe.base.nats) // 2)]
    cheap = [int(i) + 1 for i in np.argsort(costs, kind="stable") if i >= 1 and np.isfinite(costs[i])]
    return list(dict.fromkeys([*cheap[: most - 1], *able[:1].tolist()]))


def enumerated(probe: Probe, cut: int, seconds: float) -> Enumerated:
    """The sum of the probabilities of tokens at `cut`, as many as `seconds` allow, the stream's most frequent first."""
    frequency = np.bincount(probe.stream.tokens, minlength=probe.stream.vocab)
    realized = int(probe.stream.tokens[cut])
    order = [realized, *(int(t) for t in np.argsort(-frequency, kind="stable") if t != realized)]
    began, total, tried = time.perf_counter(), 0.0, 0
    for token in order:
        tokens = probe.stream.tokens[: cut + 1].copy()
        tokens[cut] = token
        total += float(np.exp(-one_pass(probe.predictor, TokenStream(tokens, probe.stream.vocab)).nats[cut - 1]))
        tried += 1
        if time.perf_counter() - began > seconds:
            break
    return Enumerated(cut - 1, total, tried)


def judge_enumeration(sums: list[Enumerated], probe: Probe) -> list[Ruling]:
    """The ruling on sums over the vocabulary; where only a part was tried, only too much is an offence."""
    sums = [item for item in sums if np.isfinite(item.total)]
    vocab = probe.stream.vocab
    if not sums:
        return [skipped(NORMALIZATION, "the predictor gives no distributions and no scores for a shortened stream")]
    evidence = "; ".join(
        f"target {item.target}: {item.tried:,} of {vocab:,} tokens sum to {item.total:.4f}" for item in sums
    )
    over = [item for item in sums if item.total > 1 + SUM_TOLERANCE]
    under = [item for item in sums if item.tried == vocab and item.total < 1 - SUM_TOLERANCE]
    if over or under:
        said = "put in the target's place, the tokens of the vocabulary have probabilities that do not sum to one"
        keys = ("normalization", "target_in_key", "byte_mixture")
        return [failed(NORMALIZATION, said, evidence, *keys)]
    complete = sum(item.tried == vocab for item in sums)
    if not complete:
        missing = f"too slow to try all {vocab:,} tokens; those tried do not exceed one: {evidence}"
        return [skipped(NORMALIZATION, missing)]
    said = "put in the target's place, all tokens of the vocabulary have probabilities that sum to one"
    return [passed(NORMALIZATION, said, evidence, "normalization")]


def probability_sum(logprobs: Doubles) -> float:
    """The sum of the probabilities."""
    return float(np.exp(logprobs).sum())
