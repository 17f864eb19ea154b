"""The linter of submissions: any folder, ours or not, or one `submission.json` or log by itself (R6 to R8).

It reads what people really submit: 57 merged entries have 139 different keys, three generations of logs, several names
for each file. It never raises for what it reads, and says for each thing where it is written that it matters.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from paramgolf.bundle.claim import Claim, read_claim
from paramgolf.bundle.lint_claim import claim_findings
from paramgolf.bundle.lint_code import code_findings, listed_code
from paramgolf.bundle.lint_finding import LintFinding
from paramgolf.bundle.lint_logs import claimed_in_logs, log_findings
from paramgolf.bundle.training_log import LogFacts, read_training_log
from paramgolf.contest import Contest
from paramgolf.errors import DataError, UsageError

CLAIM_NAME = "submission.json"
HASHES_NAME = "SHA256SUMS"
LARGEST_FILE = 50_000_000
"""Bytes of a file that nobody wants in a pull request."""
LARGEST_LOG = 64_000_000
SHORT_README = 300


@dataclass(frozen=True, kw_only=True)
class LintedFolder:
    """A submission as it was read."""

    folder: Path
    claim: Claim | None
    claim_file: str
    logs: dict[str, str]
    """Text of each log by its name in the folder."""
    facts: dict[str, LogFacts]

    @property
    def is_record(self) -> bool:
        """Whether it is meant for the record track, by its folder or by what it claims."""
        return "non_record" not in self.folder.resolve().as_posix() and (self.claim is None or self.claim.is_record)


def lint(path: Path, contest: Contest, *, start: bool = False) -> list[LintFinding]:
    """What is wrong with the submission at `path`: a folder, a `.json` or a log. Empty: nothing.

    `start` also starts the script. Errors come first. Raises `UsageError` when there is nothing at `path`.
    """
    if not path.exists():
        raise UsageError(f"there is no {path}", fix="paramgolf lint records/track_10min_16mb/FOLDER")
    found = list(folder_findings(path, contest, start=start) if path.is_dir() else file_findings(path, contest))
    return sorted(found, key=lambda finding: ("error", "warning", "note").index(finding.severity))


def file_findings(path: Path, contest: Contest) -> Iterator[LintFinding]:
    """What is wrong with one file by itself."""
    if path.suffix == ".json":
        claim = claim_in(path)
        yield from claim_findings(claim, path.name, contest) if isinstance(claim, Claim) else [claim]
        return
    facts = read_training_log(log_text(path))
    yield from log_findings(facts, path.name, contest, record=True)


def folder_findings(folder: Path, contest: Contest, *, start: bool) -> Iterator[LintFinding]:
    """What is wrong with a folder."""
    path = claim_path(folder)
    read = claim_in(path) if path else None
    claim = read if isinstance(read, Claim) else None
    logs = {log.relative_to(folder).as_posix(): log_text(log) for log in log_paths(folder)}
    entry = LintedFolder(
        folder=folder,
        claim=claim,
        claim_file=path.name if path else CLAIM_NAME,
        logs=logs,
        facts={name: read_training_log(text) for name, text in logs.items()},
    )
    if isinstance(read, LintFinding):
        yield read
    yield from entry_files(entry)
    if claim is not None:
        stated = claim if entry.is_record else replace(claim, track="non-record")
        yield from claim_findings(stated, entry.claim_file, contest)
        yield from claimed_in_logs(claim, entry.facts, entry.claim_file)
    for name, facts in entry.facts.items():
        yield from log_findings(facts, name, contest, record=entry.is_record)
    yield from code_findings(folder, claim, contest, start=start)
    yield from listed_code(folder, logs)
    yield from frozen_files(folder)


def claim_in(path: Path) -> Claim | LintFinding:
    """The claim in a file, or what is wrong with the file."""
    try:
        return read_claim(path.read_bytes())
    except (DataError, OSError) as error:
        evidence = error.evidence if isinstance(error, DataError) else str(error)
        return LintFinding(
            "error", path.name, str(getattr(error, "cause", error)), evidence, "README; #771", "correct it"
        )


def claim_path(folder: Path) -> Path | None:
    """`submission.json`, or what else is called so: `submission_ternary.json`."""
    named = sorted(folder.glob("submission*.json"))
    return folder / CLAIM_NAME if (folder / CLAIM_NAME).is_file() else named[0] if named else None


def log_paths(folder: Path) -> list[Path]:
    """The training logs: `.log` files, and text files that are called logs, here and one folder down."""
    found = {*folder.glob("*.log"), *folder.glob("*/*.log"), *folder.glob("logs/*.txt")}
    texts = (path for path in folder.glob("*.txt") if not path.name.startswith("train_gpt"))
    found |= {path for path in texts if "log" in path.name or path.name.startswith(("train", "seed"))}
    return sorted(path for path in found if path.is_file())


def log_text(path: Path) -> str:
    """The text of a log, its end where it is enormous; invalid UTF-8 is replaced."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - LARGEST_LOG))
        return file.read().decode("utf-8", "replace")


def entry_files(entry: LintedFolder) -> Iterator[LintFinding]:
    """Files that are missing, too small or too large."""
    folder, rule = entry.folder, "README: submission folder"
    if claim_path(folder) is None:
        evidence = f"{folder.name} holds {', '.join(sorted(path.name for path in folder.iterdir())[:8]) or 'nothing'}"
        yield LintFinding("error", CLAIM_NAME, "submission.json is missing", evidence, rule, "paramgolf submit --help")
    if not entry.logs:
        evidence = "no .log file, no text file that is called a log"
        yield LintFinding("error", "train.log", "there is no training log", evidence, rule, "a log of every seed")
    yield from readme_findings(entry)
    if not (folder / "requirements.txt").is_file():
        evidence = "what train_gpt.py imports has to be installed by others"
        yield LintFinding("note", "requirements.txt", "there are no requirements", evidence, rule, "add them")
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.stat().st_size > LARGEST_FILE:
            name = path.relative_to(folder).as_posix()
            evidence = f"{path.stat().st_size:,} bytes"
            yield LintFinding("warning", name, "a file is too large for a pull request", evidence, rule, "leave it out")


def readme_findings(entry: LintedFolder) -> Iterator[LintFinding]:
    """A README that is missing, short, or speaks of another score."""
    path = next((path for path in sorted(entry.folder.glob("*")) if path.name.lower() == "readme.md"), None)
    if path is None or not path.is_file():
        evidence = "nothing explains the submission"
        yield LintFinding(
            "error", "README.md", "README.md is missing", evidence, "README: submission folder", "write it"
        )
        return
    text = path.read_text(encoding="utf-8", errors="replace")
    if len(text) < SHORT_README:
        evidence = f"{len(text)} characters"
        yield LintFinding("warning", path.name, "README.md explains little", evidence, "README: submission folder", "")
    if entry.claim is not None and entry.claim.val_bpb is not None and f"{entry.claim.val_bpb:.3f}" not in text:
        rounded = f"{entry.claim.val_bpb:.4f}"
        if rounded not in text and str(entry.claim.val_bpb)[:5] not in text:
            evidence = f"{rounded} is claimed"
            yield LintFinding("warning", path.name, "README.md does not tell the score", evidence, "R10", "tell it")


def frozen_files(folder: Path) -> Iterator[LintFinding]:
    """Files that are no longer those of `SHA256SUMS`, where there is one."""
    listing = folder / HASHES_NAME
    if not listing.is_file():
        return
    for line in listing.read_text(encoding="utf-8", errors="replace").splitlines():
        digest, _, name = line.partition("  ")
        path = folder / name
        inside = name and folder.resolve() in path.resolve().parents
        if not inside or not path.is_file():
            yield LintFinding("error", HASHES_NAME, "a frozen file is missing", f"{name!r:.80}", "frozen folder", "")
        elif hashlib.sha256(path.read_bytes()).hexdigest() != digest:
            evidence = f"SHA-256 is no longer {digest[:16]}…"
            fix = "make the folder again: paramgolf submit"
            yield LintFinding("error", name, "a frozen file was changed", evidence, "frozen folder", fix)
