"""Checks of what a `submission.json` claims, by itself (R1, R6, R7)."""

import statistics
from collections.abc import Iterator
from datetime import datetime
from typing import NamedTuple

from paramgolf.bundle.claim import Claim
from paramgolf.bundle.lint_finding import (
    TIME_TOLERANCE,
    LintFinding,
    Severity,
    implied_ratio,
    official_vocabularies,
    rounding,
)
from paramgolf.contest import Contest

ESSENTIAL = ("name", "author", "date", "val_bpb", "bytes_total")
"""Fields without which an entry cannot be listed."""
LOWEST_BPB, HIGHEST_BPB = 0.6, 8.0
"""Scores outside are slips: differences and deviations have been taken for scores."""


def claim_findings(claim: Claim, file: str, contest: Contest) -> Iterator[LintFinding]:
    """Everything wrong with `claim`, read from `file`, under the budgets of `contest`."""
    yield from claimed_fields(claim, file)
    yield from claimed_sizes(claim, file, contest)
    yield from claimed_scores(claim, file)
    yield from claimed_means(claim, file)
    yield from claimed_seeds(claim, file)
    if claim.is_record:
        yield from claimed_times(claim, file, contest)


def claimed_fields(claim: Claim, file: str) -> Iterator[LintFinding]:
    """Fields that are missing, of another type, or no date."""
    told = {"val_bpb": [s.val_bpb for s in claim.seeds], "val_loss": [s.val_loss for s in claim.seeds]}
    told["bytes_total"] = [seed.total_bytes for seed in claim.seeds]
    for field in claim.missing:
        by_seed = [value for value in told.get(field, []) if value is not None]
        severity: Severity = "note" if by_seed else "error" if field in ESSENTIAL else "warning"
        evidence = f"{len(by_seed)} seeds have it" if by_seed else f"there is no {field}, under no known name"
        yield LintFinding(severity, file, f"{field} is missing", evidence, "README", f"add {field}")
    for oddity in claim.oddities:
        yield LintFinding("warning", file, "a value is not what its name says", oddity, "README", f"correct {file}")
    if claim.date is not None and not is_iso_date(claim.date):
        yield LintFinding(
            "warning", file, "the date is not in ISO form", f"date: {claim.date!r:.60}", "README", "2026-05-01"
        )


def is_iso_date(text: str) -> bool:
    """Whether `text` is a date, or a date and time, of ISO 8601."""
    try:
        return bool(datetime.fromisoformat(text.strip()))
    except ValueError:
        return False


def claimed_sizes(claim: Claim, file: str, contest: Contest) -> Iterator[LintFinding]:
    """Sizes over the budget, and totals that are not sums or not the largest."""
    cap = min(contest.artifact_bytes, claim.byte_budget or contest.artifact_bytes)
    rule = "README: 16,000,000 decimal bytes, every seed; #825, #769, #1978"
    sizes = {f"seed {seed.seed}": seed.total_bytes for seed in claim.seeds if seed.total_bytes is not None}
    if claim.total_bytes is not None:
        sizes["bytes_total"] = claim.total_bytes
    for what, size in sizes.items():
        if size > cap:
            evidence = f"{what}: {size:,} bytes, {size - cap:,} over {cap:,} ({cap / 2**20:.2f} MiB)"
            yield LintFinding("error", file, "code and model exceed the byte budget", evidence, rule, "compress more")
        elif size < 1_000:
            evidence = f"{what}: {size:,}"
            yield LintFinding("warning", file, "a size is too small to be one in bytes", evidence, rule, "give bytes")
    largest = max((seed.total_bytes for seed in claim.seeds if seed.total_bytes is not None), default=None)
    if largest is not None and claim.total_bytes is not None and claim.total_bytes < largest <= cap:
        evidence = f"bytes_total {claim.total_bytes:,}, the largest seed has {largest:,}"
        yield LintFinding("warning", file, "bytes_total is not the largest seed", evidence, rule, f"{largest}")
    parts = (claim.total_bytes, claim.code_bytes, claim.model_bytes)
    if None not in parts and parts[0] != (parts[1] or 0) + (parts[2] or 0):
        evidence = f"total {parts[0]:,}, code {parts[1]:,}, model {parts[2]:,}"
        yield LintFinding("error", file, "the total is not code plus model", evidence, rule, "add them up again")


def claimed_scores(claim: Claim, file: str) -> Iterator[LintFinding]:
    """Scores out of range, and losses that do not belong to their bits per byte."""
    rule = "issue #1604; bpb = loss / ln 2 * tokens / bytes"
    pairs = [(f"seed {s.seed}", s.val_loss, s.val_bpb) for s in claim.seeds] + [("all", claim.val_loss, claim.val_bpb)]
    for what, _, bpb in pairs:
        if bpb is not None and not LOWEST_BPB < bpb < HIGHEST_BPB:
            evidence = f"{what}: {bpb} bits per byte"
            yield LintFinding("error", file, "a score is out of every range", evidence, rule, "write the score itself")
    ratios = score_ratios(pairs)
    if not ratios:
        return
    # The most exact is what the others are held against: a mean is often rounded where its seeds are not.
    low = min(ratios.values(), key=lambda ratio: ratio.slack)
    if any(abs(ratio.value / low.value - 1) > 2 * (ratio.slack + low.slack) for ratio in ratios.values()):
        evidence = ", ".join(f"{what}: {ratio.value:.5f} bytes a token" for what, ratio in ratios.items())
        cause = "losses and bits per byte do not belong together"
        yield LintFinding("error", file, cause, evidence, rule, "score again")
        return
    if claim.val_tokens and claim.val_bytes:
        true = claim.val_bytes / claim.val_tokens
        if abs(low.value / true - 1) > 2 * low.slack:
            evidence = (
                f"{low.value:.5f} bytes a token by the scores, {claim.val_bytes:,} / {claim.val_tokens:,} = {true:.5f}"
            )
            yield LintFinding(
                "error", file, "bits per byte are not loss by tokens and bytes", evidence, rule, "score again"
            )
    elif not official_vocabularies(low.value):
        evidence = f"{low.value:.4f} bytes a token; official: 1, 2.44, 3.32, 3.73, 3.16 (CaseOps)"
        fix = "show the byte count, decoded"
        yield LintFinding("warning", file, "no official tokenizer has so many bytes a token", evidence, rule, fix)


class ScoreRatio(NamedTuple):
    """Bytes a token by one loss and one score."""

    value: float
    slack: float
    """How far the rounding of the two may move it, as a share."""


def score_ratios(pairs: list[tuple[str, float | None, float | None]]) -> dict[str, ScoreRatio]:
    """The ratio of each pair that has both numbers. Seeds are written with as many digits as the longest of them."""
    both = [(what, loss, bpb) for what, loss, bpb in pairs if loss and bpb and min(loss, bpb) > 0]
    found = {}
    for what, loss, bpb in both:
        alike = [(a, b) for name, a, b in both if (name == "all") == (what == "all")]
        errors = rounding([a for a, _ in alike]) / loss + rounding([b for _, b in alike]) / bpb
        found[what] = ScoreRatio(implied_ratio(loss, bpb), errors + 1e-6)
    return found


def claimed_means(claim: Claim, file: str) -> Iterator[LintFinding]:
    """Means and deviations that are not those of the seeds."""
    rule = "R7: report the mean of all runs"
    kinds = (
        ("val_bpb", claim.val_bpb, claim.bpb_deviation, [seed.val_bpb for seed in claim.seeds]),
        ("val_loss", claim.val_loss, claim.loss_deviation, [seed.val_loss for seed in claim.seeds]),
    )
    for name, mean, deviation, given in kinds:
        values = [value for value in given if value is not None]
        if len(values) < 2 or len(values) < len(given):
            continue
        slack = rounding([mean] if mean is not None else values) + rounding(values)
        found = statistics.fmean(values)
        if mean is not None and abs(found - mean) > slack:
            one = any(abs(value - mean) <= slack for value in values)
            cause = f"{name} is that of one seed, not the mean" if one else f"{name} is not the mean of the seeds"
            evidence = f"{mean} claimed, the mean of {len(values)} seeds is {found:.8f}"
            yield LintFinding("warning" if one else "error", file, cause, evidence, rule, f"{found:.8f}")
        # Published to two digits of their own, with n or n - 1.
        kinds_of = (statistics.stdev(values), statistics.pstdev(values))
        if deviation is not None and all(abs(kind - deviation) > max(0.06 * kind, 1.01e-5, slack) for kind in kinds_of):
            evidence = f"{deviation} claimed, the seeds have {kinds_of[0]:.8f}"
            cause = f"the deviation of {name} is not that of the seeds"
            yield LintFinding("warning", file, cause, evidence, rule, f"{kinds_of[0]:.8f}")


def claimed_seeds(claim: Claim, file: str) -> Iterator[LintFinding]:
    """Too few seeds, one twice, and runs that were made and left out."""
    rule = "README: 0.005 nats at p < 0.01; #132"
    numbers = [seed.seed for seed in claim.seeds]
    twice = sorted({number for number in numbers if numbers.count(number) > 1})
    if twice:
        yield LintFinding("error", file, "a seed counts twice", f"seeds {twice}", rule, "run another seed")
    if claim.is_record and len(set(numbers)) < 3:
        cause = "significance cannot be shown with fewer than three seeds"
        yield LintFinding(
            "error" if claim.track and numbers else "warning",
            file,
            cause,
            f"seeds: {numbers or 'none listed'}",
            rule,
            "run three seeds or more",
        )
    if claim.other_seeds:
        evidence = f"seeds {numbers} count, {list(claim.other_seeds)} are named too"
        cause = "some runs were made and do not count"
        yield LintFinding("warning", file, cause, evidence, "R7: report all runs; #1769 took 5 of 7", "count all runs")


def claimed_times(claim: Claim, file: str, contest: Contest) -> Iterator[LintFinding]:
    """Times over the budgets."""
    runs = [(f"seed {seed.seed}", seed.train_seconds, seed.eval_seconds) for seed in claim.seeds]
    for what, train, evaluation in [*runs, ("all", claim.train_seconds, claim.eval_seconds)]:
        if train is not None and train > contest.train_seconds + TIME_TOLERANCE:
            evidence = f"{what}: {train:.1f} s of {contest.train_seconds:g}"
            yield LintFinding("error", file, "training took too long", evidence, "README; #1908", "stop by the clock")
        if evaluation is not None and evaluation > contest.eval_seconds:
            evidence = f"{what}: {evaluation:.1f} s of {contest.eval_seconds:g}"
            yield LintFinding("error", file, "evaluation took too long", evidence, "README", "a cheaper evaluation")
