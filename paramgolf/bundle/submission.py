"""A submission's folder, made from finished runs: checked first, written at once or not at all, then frozen (R6)."""

import hashlib
import math
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from paramgolf.bundle.lint_finding import TIME_TOLERANCE
from paramgolf.bundle.training_log import read_training_log
from paramgolf.errors import DataError, OverBytes, OverTime, UsageError
from paramgolf.result import Result
from paramgolf.run import Run

FROZEN_LIST = "SHA256SUMS"
RECORD_TRACK, OTHER_TRACK = "10min_16mb", "non_record_16mb"


@dataclass(frozen=True, kw_only=True)
class SubmissionSeed:
    """One finished run."""

    run: Run
    result: Result
    log: str
    """Text of its `train.log`."""


@dataclass(frozen=True, kw_only=True)
class SubmissionCode:
    """The code that counts."""

    script: bytes
    """`train_gpt.py` as it is submitted."""
    readable: str = ""
    """The same for people; not counted. Empty: the script is readable itself."""


@dataclass(frozen=True, kw_only=True)
class RivalScores:
    """What is to be beaten."""

    name: str
    scores: tuple[float, ...]
    """Bits per byte of its seeds, or its one published mean."""


@dataclass(frozen=True, kw_only=True)
class Submission:
    """Everything that goes into a folder."""

    name: str
    author: str
    github_id: str
    blurb: str
    date: str
    """ISO."""
    track: str
    seeds: tuple[SubmissionSeed, ...]
    code: SubmissionCode
    base: Run
    """What the README's table of differences starts from."""
    rival: RivalScores | None = None
    left_out: str = ""
    """Why finished runs of this configuration do not count, where there are any."""
    tokenizer: Path | None = None

    @property
    def results(self) -> list[Result]:
        """In order of the seeds given."""
        return [seed.result for seed in self.seeds]

    @property
    def run(self) -> Run:
        """The configuration; that of the first seed."""
        return self.seeds[0].run

    @property
    def folder_name(self) -> str:
        """`2026-05-01_Wider_and_flatter`."""
        return f"{self.date}_{re.sub(r'[^A-Za-z0-9.-]+', '_', self.name).strip('_')[:80]}"

    def total_bytes(self, result: Result) -> int:
        """Model of one seed and the script."""
        return result.artifact_bytes + len(self.code.script)


def require_sound(submission: Submission) -> None:
    """Raise what is wrong with a submission before anything is written.

    `UsageError` for runs that do not belong together, `DataError` for scores that their logs do not hold or a script
    that does not compile, `OverBytes` and `OverTime` for budgets of the runs' own contest.
    """
    require_one_configuration(submission.seeds)
    contest = submission.run.contest
    for seed in submission.seeds:
        result = seed.result
        total = submission.total_bytes(result)
        if total > contest.artifact_bytes:
            raise OverBytes(
                f"seed {result.seed} is {total - contest.artifact_bytes:,} bytes over {contest.artifact_bytes:,}",
                evidence=f"model {result.artifact_bytes:,}, code {len(submission.code.script):,}",
                fix="a smaller export: paramgolf export --help",
            )
        for what, spent, allowed in (
            ("training", result.train_seconds, contest.train_seconds + TIME_TOLERANCE),
            ("evaluation", result.eval_seconds, contest.eval_seconds),
        ):
            if spent > allowed and submission.track != OTHER_TRACK:
                raise OverTime(
                    f"{what} of seed {result.seed} took {spent:.1f} s, over the budget",
                    evidence=f"{allowed:g} s are allowed; on {result.world} x {result.device}",
                    fix=f"--track {OTHER_TRACK}, where compute is not limited",
                )
        final = read_training_log(seed.log).final
        if final is None or abs(final.val_bpb - result.val_bpb) > 6e-9 * max(1.0, result.val_bpb):
            raise DataError(
                f"the log of seed {result.seed} does not hold its score",
                evidence=f"result {result.val_bpb:.8f}, log {final and final.val_bpb}",
                fix=f"paramgolf score runs/FOLDER, for the run of seed {result.seed}",
            )
    try:
        compile(submission.code.script, "train_gpt.py", "exec", dont_inherit=True)
    except (SyntaxError, ValueError) as error:
        raise DataError("the script does not compile", evidence=str(error)) from error


def require_one_configuration(seeds: Sequence[SubmissionSeed]) -> None:
    """Raise `UsageError` unless `seeds` are different seeds of one configuration on the same data."""
    if not seeds:
        raise UsageError("no run was given", fix="paramgolf runs list")
    kinds: dict[str, Mapping[str, int]] = {
        "configurations": {seed.run.digest: seed.result.seed for seed in seeds},
        "data": {seed.result.data_fingerprint: seed.result.seed for seed in seeds},
        "validation streams": {f"{s.result.val_tokens}/{s.result.val_bytes}": s.result.seed for s in seeds},
    }
    for what, found in kinds.items():
        if len(found) > 1:
            evidence = ", ".join(f"seed {seed}: {kind}" for kind, seed in found.items())
            raise UsageError(f"the runs have different {what}", evidence=evidence, fix="paramgolf diff RUN RUN")
    numbers = [seed.result.seed for seed in seeds]
    if len(set(numbers)) < len(numbers):
        raise UsageError("a seed was given twice", evidence=f"seeds {numbers}", fix="one run of each seed")
    if not all(math.isfinite(seed.result.val_bpb) and seed.result.val_bpb > 0 for seed in seeds):
        raise UsageError("a run has no score", evidence=f"{[seed.result.val_bpb for seed in seeds]}")


def write_submission(files: Mapping[str, bytes], target: Path, *, overwrite: bool = False) -> Path:
    """Write `files` into the folder `target` with the list of their SHA-256, all at once.

    Raises `UsageError` when the folder is there, unless it may be replaced.
    """
    if target.exists() and not overwrite:
        raise UsageError(f"{target} is there already", fix="--overwrite, or another --name or --date")
    sums = "".join(f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in sorted(files.items()))
    partial, old = (target.with_name(f".{target.name}.{end}") for end in ("partial", "old"))
    for leftover in (partial, old):
        shutil.rmtree(leftover, ignore_errors=True)
    partial.mkdir(parents=True)
    for name, content in {**files, FROZEN_LIST: sums.encode()}.items():
        (partial / name).write_bytes(content)
    if target.exists():
        os.replace(target, old)
    os.replace(partial, target)
    shutil.rmtree(old, ignore_errors=True)
    return target
