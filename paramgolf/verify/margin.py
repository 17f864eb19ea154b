"""The margin over the best score, by both readings of the rule (rules catalogue R7)."""

import math
from collections.abc import Sequence

from paramgolf.bundle.significance import compared_scores
from paramgolf.verify.ruling import Reading, Ruling, Verdict, skipped

MARGIN = "margin over the best"
FEWEST_SEEDS = 3


def check_margin(scores: Sequence[float], best: Sequence[float], bytes_per_token: float | None) -> list[Ruling]:
    """Whether seeds with `scores` (bits per byte) beat `best`: README (0.005 nats, p < 0.01) and chain (p < 0.25)."""
    if not best or len(scores) < 2 or not bytes_per_token:
        missing = (
            "no score to beat is given (--best)" if not best else f"{len(scores)} seeds tell a score; two are needed"
        )
        return [skipped(MARGIN, missing)]
    readings = []
    for reading in compared_scores(scores, best, bytes_per_token):
        kept = reading.kept and (reading.margin == 0 or len(scores) >= FEWEST_SEEDS)
        tested = reading.outcome
        why = (
            f"{tested.test} {tested.t:.3f}, p = {tested.p:.5f}, {len(scores)} seeds"
            if tested.p is not None
            else "one seed"
        )
        name = f"{reading.name}: margin {reading.margin:.5f} bpb, p < {reading.limit:g}"
        readings.append(Reading(name, Verdict.PASSED if kept else Verdict.FAILED, why))
    verdicts = {reading.verdict for reading in readings}
    verdict = verdicts.pop() if len(verdicts) == 1 else Verdict.DISPUTED
    said = {
        Verdict.PASSED: "the best score is beaten by both readings",
        Verdict.DISPUTED: "the best score is beaten by one reading and not by the other",
        Verdict.FAILED: "the best score is beaten by neither reading",
    }[verdict]
    evidence = f"mean {math.fsum(scores) / len(scores):.6f} bpb, to beat {math.fsum(best) / len(best):.6f}"
    return [
        Ruling(check=MARGIN, verdict=verdict, said=said, evidence=evidence, rules=("margin",), readings=tuple(readings))
    ]
