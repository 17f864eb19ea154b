"""Checks of training logs: by themselves, and against what is claimed (R4, R6, R8)."""

import re
from collections.abc import Iterator, Mapping

from paramgolf.bundle.claim import Claim, SeedClaim
from paramgolf.bundle.lint_finding import (
    TIME_TOLERANCE,
    LintFinding,
    implied_ratio,
    official_vocabularies,
    rounding,
)
from paramgolf.bundle.training_log import LogFacts
from paramgolf.contest import Contest

Logs = Mapping[str, LogFacts]


def log_findings(facts: LogFacts, file: str, contest: Contest, *, record: bool) -> Iterator[LintFinding]:
    """Everything wrong with one log. Times count for a `record` only; bytes always do."""
    yield from logged_end(facts, file)
    yield from logged_bytes(facts, file, contest)
    yield from logged_coverage(facts, file)
    if record:
        yield from logged_times(facts, file, contest)


def logged_end(facts: LogFacts, file: str) -> Iterator[LintFinding]:
    """A log that ends without a score, or in an error."""
    final = facts.final
    if facts.traceback is not None and (final is None or facts.traceback > final.line):
        evidence = f"line {facts.traceback} of {facts.lines}" + (
            f", after the score in line {final.line}" if final else ""
        )
        yield LintFinding(
            "error" if final is None else "warning",
            file,
            "the run ended in an error",
            evidence,
            "#1133",
            "run it again to its end",
        )
    elif final is None:
        evidence = f"{facts.lines} lines, {len(facts.validations)} validations on the way, no final score"
        yield LintFinding("error", file, "the log holds no score", evidence, "README: logs", "give the whole log")
    elif not final.val_loss > 0 < final.val_bpb:
        evidence = f"line {final.line}: val_loss {final.val_loss}, val_bpb {final.val_bpb}"
        yield LintFinding("error", file, "the final score is no score", evidence, "README: logs", "run it again")


def logged_bytes(facts: LogFacts, file: str, contest: Contest) -> Iterator[LintFinding]:
    """Sizes over the budget, and totals that are not sums."""
    total, cap = facts.total_bytes, contest.artifact_bytes
    rule = "README: 16,000,000 decimal bytes, every seed; #825, #769, #1978"
    if total is not None and total > cap:
        evidence = f"{total:,} bytes, {total - cap:,} over"
        yield LintFinding("error", file, "code and model exceed the byte budget", evidence, rule, "compress more")
    if None not in (total, facts.model_bytes, facts.code_bytes):
        parts = (facts.model_bytes or 0) + (facts.code_bytes or 0)
        if total != parts:
            evidence = f"total {total:,}, code {facts.code_bytes:,} and model {facts.model_bytes:,} make {parts:,}"
            yield LintFinding("warning", file, "the total is not code plus model", evidence, rule, "count again")


def logged_coverage(facts: LogFacts, file: str) -> Iterator[LintFinding]:
    """A validation split that is not the whole one of its tokenizer."""
    final = facts.final
    if final is None or facts.val_tokens is None or not final.val_loss > 0 < final.val_bpb:
        return
    ratio = implied_ratio(final.val_loss, final.val_bpb)
    fitting = official_vocabularies(ratio)
    counts = {count for vocabulary in fitting for count in vocabulary.val_tokens}
    # Evaluations round to their own length: a row of 4,096 more or less is no other split.
    if fitting and all(abs(facts.val_tokens - count) > 8192 for count in counts):
        evidence = f"{facts.val_tokens:,} tokens at {ratio:.4f} bytes each; {fitting[0].name} has {sorted(counts)}"
        fix = "score all 50,000 documents"
        yield LintFinding("warning", file, "this is not the whole validation split", evidence, "README; #2127", fix)


def logged_times(facts: LogFacts, file: str, contest: Contest) -> Iterator[LintFinding]:
    """Times over the budgets, under both readings of them."""
    train, hessians, allowed = facts.train_seconds, facts.hessian_seconds, contest.train_seconds
    if train is not None and train > allowed:
        over = train > allowed + TIME_TOLERANCE
        cause = "training took too long" if over else "training ended with the step that reached the limit"
        evidence = f"{train:.3f} s of {allowed:g}"
        yield LintFinding("error" if over else "note", file, cause, evidence, "README; #1908 had 601.153 s")
    if train is not None and hessians and train <= allowed + TIME_TOLERANCE and train + hessians > allowed:
        evidence = f"{train:.1f} s of training and {hessians:.1f} s of Hessians make {train + hessians:.1f}"
        cause = "calibration with training data ended after the clock"
        rule = "issue #677: illegal; accepted in #1855; #1868 kept 8 s and lost nothing"
        yield LintFinding("warning", file, cause, evidence, rule, "keep time for it: train.reserve_seconds")
    seconds, budget = facts.eval_seconds, contest.eval_seconds
    if seconds is not None and seconds > budget:
        evidence = f"{seconds:.1f} s of {budget:g}"
        yield LintFinding("error", file, "evaluation took too long", evidence, "README", "a cheaper evaluation")
    elif seconds is not None and seconds + facts.uncounted_seconds > budget:
        evidence = f"{seconds:.1f} s counted and {facts.uncounted_seconds:.1f} s of decoding and warm-up"
        cause = "evaluation takes too long if decoding and warm-up count"
        yield LintFinding("warning", file, cause, evidence, "strict reading; no ruling (#1855)", "a cheaper evaluation")
    if facts.world not in (None, contest.devices):
        evidence = f"world_size {facts.world}, {contest.devices} are the challenge's"
        yield LintFinding("warning", file, "the run was not on the challenge's machine", evidence, "README", "")


def claimed_in_logs(claim: Claim, logs: Logs, file: str) -> Iterator[LintFinding]:
    """Claims that no log holds: of each seed, or of the whole where no seeds are told apart."""
    if not claim.seeds:
        yield from score_in_logs(claim, logs, file)
        return
    for seed in claim.seeds:
        name = log_of(seed.seed, logs)
        if name is None:
            evidence = f"logs: {', '.join(logs) or 'none'}"
            yield LintFinding("error", file, f"seed {seed.seed} has no log", evidence, "README: logs", "add its log")
        else:
            yield from seed_in_log(seed, logs[name], name, claim.code_bytes)


def log_of(seed: int, logs: Logs) -> str | None:
    """The log of `seed`: by what it says, else by its name."""
    told = next((name for name, facts in logs.items() if facts.seed == seed), None)
    named = (name for name, facts in logs.items() if facts.seed is None and str(seed) in re.findall(r"\d+", name))
    return told or next(named, None)


def score_in_logs(claim: Claim, logs: Logs, file: str) -> Iterator[LintFinding]:
    """Whether any log holds the one score that is claimed."""
    if claim.val_bpb is None or not logs:
        return
    slack = rounding([claim.val_bpb])
    scores = [score.val_bpb for facts in logs.values() for score in facts.scores if not score.diagnostic]
    if scores and all(abs(score - claim.val_bpb) > slack for score in scores):
        evidence = f"{claim.val_bpb} claimed, logged: {', '.join(f'{score:.5f}' for score in scores[-4:])}"
        yield LintFinding("error", file, "no log holds the score", evidence, "README: logs; #1133", "claim what ran")


def seed_in_log(seed: SeedClaim, facts: LogFacts, file: str, code_bytes: int | None) -> Iterator[LintFinding]:
    """Whether the log of a seed says what is claimed of it, `code_bytes` for the code."""
    final = facts.final
    if final is not None and seed.val_bpb is not None:
        # A log's own lines may be rounded to four digits.
        slack = max(rounding([seed.val_bpb]), rounding([final.val_bpb]))
        near = [score for score in facts.scores if abs(score.val_bpb - seed.val_bpb) <= slack and not score.diagnostic]
        evidence = f"seed {seed.seed}: {seed.val_bpb} claimed, the log ends with {final.name} {final.val_bpb}"
        if not near:
            cause = "the log does not hold the score of its seed"
            yield LintFinding("error", file, cause, evidence, "README: logs; #1133", "claim what ran")
        elif abs(final.val_bpb - seed.val_bpb) > slack:
            yield LintFinding("warning", file, "the claimed score is not the log's last", evidence, "README: logs", "")
    yield from size_in_log(seed, facts, file, code_bytes)
    if None not in (seed.steps, facts.steps) and seed.steps != facts.steps:
        evidence = f"seed {seed.seed}: {seed.steps:,} claimed, {facts.steps:,} in the log"
        yield LintFinding("warning", file, "the number of steps is not the log's", evidence, "README: logs", "")


def size_in_log(seed: SeedClaim, facts: LogFacts, file: str, code_bytes: int | None) -> Iterator[LintFinding]:
    """Whether the size of a seed is the log's total; that may count the code otherwise, but not the model."""
    claimed, total, model = seed.total_bytes, facts.total_bytes, facts.model_bytes
    if claimed is None or total is None or claimed == total:
        return
    evidence = f"seed {seed.seed}: {claimed:,} claimed, {total:,} in the log"
    if claimed == model:
        evidence += f", {model:,} of it the model alone"
        yield LintFinding("warning", file, "code is left out of the size", evidence, "README", "add the code")
    elif model is not None and code_bytes is not None and claimed == model + code_bytes:
        evidence += f": the same model of {model:,} and {code_bytes:,} for the code"
        yield LintFinding("note", file, "the log counts the code otherwise", evidence, "README", "")
    else:
        yield LintFinding("error", file, "the size is not the log's", evidence, "README", "claim what ran")
