"""Is a score better? The tests that the challenge asks for, under both readings of its rules (R1, R7).

README: better than the best by 0.005 nats a token at p < 0.01, one-sided. Practice of April and May 2026: p < 0.25
against the predecessor, without the margin (#1902, the audited chain up to #2135). Nats a token compare under one
tokenizer only, so scores here are bits per byte; the margin is turned into them by the new tokenizer's bytes a token.
"""

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

from scipy import stats

from paramgolf.errors import UsageError

MARGIN_NATS = 0.005
"""Nats a token by which a record beats the best one (README)."""
README_P = 0.01
PRACTICE_P = 0.25


class Spread(NamedTuple):
    """Several seeds of one configuration."""

    number: int
    mean: float
    deviation: float | None
    """Standard deviation with n - 1; None for a single seed."""


class Significance(NamedTuple):
    """The outcome of a one-sided test that scores lie below a threshold."""

    test: str
    """`one-sample t` or `Welch t`."""
    t: float | None
    df: float | None
    p: float | None
    """None where there are too few seeds to tell."""


class MarginReading(NamedTuple):
    """What one reading of the rules makes of a comparison."""

    name: str
    kept: bool
    margin: float
    """Bits per byte asked for."""
    limit: float
    """The p that must not be reached."""
    outcome: Significance


def spread(values: Sequence[float]) -> Spread:
    """Mean and deviation of `values`. Raises `UsageError` for none, or for one that is no finite number."""
    if not values or not all(math.isfinite(value) for value in values):
        raise UsageError(f"no scores to compare in {list(values)}", fix="give finished runs: paramgolf runs list")
    return Spread(len(values), statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None)


def margin_bpb(bytes_per_token: float, nats: float = MARGIN_NATS) -> float:
    """`nats` a token in bits per byte: 0.00296 for sp1024, 0.00194 for sp8192, 0.00228 for CaseOps (R1)."""
    return nats / math.log(2) / bytes_per_token


def below_threshold(values: Sequence[float], threshold: float) -> Significance:
    """One-sided one-sample t test that the mean of `values` is below `threshold`."""
    found = spread(values)
    if found.deviation is None:
        return Significance("one-sample t", None, None, None)
    df = float(found.number - 1)
    if found.deviation == 0.0:
        return certain("one-sample t", threshold - found.mean, df)
    outcome = stats.ttest_1samp(values, threshold, alternative="less")
    return Significance("one-sample t", float(outcome.statistic), df, float(outcome.pvalue))


def below_others(values: Sequence[float], others: Sequence[float], shift: float = 0.0) -> Significance:
    """One-sided Welch test that the mean of `values` is more than `shift` below that of `others`."""
    ours, theirs = spread(values), spread(others)
    if ours.deviation is None or theirs.deviation is None:
        return Significance("Welch t", None, None, None)
    if ours.deviation == theirs.deviation == 0.0:
        return certain("Welch t", theirs.mean - shift - ours.mean, float(ours.number + theirs.number - 2))
    lowered = [other - shift for other in others]
    outcome = stats.ttest_ind(values, lowered, equal_var=False, alternative="less")
    return Significance("Welch t", float(outcome.statistic), float(outcome.df), float(outcome.pvalue))


def certain(test: str, gain: float, df: float) -> Significance:
    """The outcome for seeds without any spread, where t is infinite."""
    return Significance(test, math.copysign(math.inf, -gain) if gain else 0.0, df, 0.0 if gain > 0 else 1.0)


def compared_scores(
    values: Sequence[float], best: Sequence[float], bytes_per_token: float
) -> tuple[MarginReading, ...]:
    """Both readings for `values` against `best`: the seeds of the best entry, or its one published mean.

    With seeds of both the test is Welch's, with a mean alone a one-sample test against it. All in bits per byte.
    """
    readings = []
    for name, margin, limit in (("README", margin_bpb(bytes_per_token), README_P), ("practice", 0.0, PRACTICE_P)):
        outcome = below_others(values, best, margin) if len(best) > 1 else below_threshold(values, best[0] - margin)
        readings.append(MarginReading(name, outcome.p is not None and outcome.p < limit, margin, limit, outcome))
    return tuple(readings)


def seeds_wanted(values: Sequence[float], threshold: float, limit: float = README_P, most: int = 50) -> int | None:
    """The fewest seeds of this mean and deviation that a one-sample test would accept; None when `most` are too few."""
    found = spread(values)
    if found.deviation is None or found.mean >= threshold:
        return None
    for number in range(2, most + 1):
        t = (found.mean - threshold) / max(found.deviation, 1e-12) * math.sqrt(number)
        if stats.t.cdf(t, number - 1) < limit:
            return number
    return None
