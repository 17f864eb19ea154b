"""Check 3, score before update: nothing learned from a token may reach its own score.

What a leak looks like from outside tells what causes it: a learner carries it into later text, an optimization on the
scored window moves the whole window, a model that sees ahead moves the few targets before the change.
"""

import numpy as np

from paramgolf.verify.probe import Probe
from paramgolf.verify.ruling import Ruling, failed, passed

UPDATE_ORDER = "score before update"
FEWEST_TOGETHER = 8
"""Targets of one part that must react together before the judge speaks of a window."""


def check_update_order(probe: Probe) -> list[Ruling]:
    """Whether something that was learned from a token reaches the token's own score."""
    true = probe.true_leaks()
    if not true:
        if probe.learns:
            said = "the predictor learns from the stream, or sees far back; no score reacts to what was not yet scored"
        else:
            said = "what is served first changes none of the last scores: nothing is learned from the stream"
        return [passed(UPDATE_ORDER, said, f"{probe.stream.targets:,} targets", "score_first")]
    target = max(true, key=lambda place: true[place])
    evidence = f"the cost of target {target} moves by {true[target]:.4f} nats with tokens not yet scored"
    if probe.learns:
        return [learned_ahead(probe, evidence)]
    share, size = window_reaction(probe)
    if size >= FEWEST_TOGETHER and share >= 0.5:
        said = "the whole window reacts to each of its tokens: it is optimized on what it then scores, or sees ahead"
        evidence += f"; {share:.0%} of the {size:,} targets scored together react to the last of them"
        return [failed(UPDATE_ORDER, said, evidence, "slot", "score_first")]
    said = "nothing is learned from the stream; what the scores react to is seen, not learned: see causality"
    return [passed(UPDATE_ORDER, said, evidence, "score_first")]


def learned_ahead(probe: Probe, evidence: str) -> Ruling:
    """The ruling on a predictor that learns before it scores: from its own part, or from the whole stream."""
    cut = max(probe.leaks_forward())
    found = probe.reacting(cut)
    own = int(probe.base.order[cut - 1])
    earlier = found[probe.base.order[found] < own]
    evidence += f"; changing the tokens from {cut} on moves {len(found):,} targets before it"
    if len(earlier):
        said = "it learns from validation text before scoring it: scores of earlier parts react as well"
        evidence += f", {len(earlier):,} of them in earlier parts, the first is target {int(earlier[0])}"
        return failed(UPDATE_ORDER, said, evidence, "score_first", "one_pass")
    said = "it learns from a part of the stream before scoring that part"
    return failed(UPDATE_ORDER, said, evidence, "score_first")


def window_reaction(probe: Probe) -> tuple[float, int]:
    """Share of the targets scored together with a cut, and before it, that react to it; the most telling cut."""
    best = (0.0, 0)
    for cut, found in probe.leaks_forward().items():
        part = np.flatnonzero(probe.base.order[: cut - 1] == probe.base.order[cut - 1])
        if len(part) >= FEWEST_TOGETHER:
            best = max(best, (len(np.intersect1d(found, part)) / len(part), len(part)))
    return best
