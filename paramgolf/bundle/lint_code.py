"""Checks of the code in a submission: it compiles, it is counted, it starts, it is what ran (R1, R6)."""

import ast
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path

from paramgolf.bundle.claim import Claim
from paramgolf.bundle.lint_finding import LintFinding, Severity
from paramgolf.bundle.trees import walk
from paramgolf.contest import Contest

MAIN_SCRIPT = "train_gpt.py"
CODE_RULE = "README: counted code lives in train_gpt.py"
START_SECONDS = 120.0
LISTING_LINES = 8
"""So many lines of a script one after the other in a log are its listing."""


def code_findings(folder: Path, claim: Claim | None, contest: Contest, *, start: bool) -> Iterator[LintFinding]:
    """Everything wrong with the code in `folder`; with `start`, the script is started to print its help."""
    scripts = sorted(folder.glob("*.py"))
    for path in scripts:
        yield from compiled(path)
    main = main_script_of(folder)
    if main is None:
        evidence = f"Python files: {', '.join(path.name for path in scripts) or 'none'}"
        yield LintFinding(
            "error", MAIN_SCRIPT, "there is no training script", evidence, CODE_RULE, f"add {MAIN_SCRIPT}"
        )
        return
    if claim is not None:
        yield from counted_code(main, scripts, claim, contest)
    if start:
        yield from started_script(folder, main)


def main_script_of(folder: Path) -> Path | None:
    """The training script: `train_gpt.py`, else the only one called `train…`."""
    named = sorted(folder.glob("train*.py"))
    if (folder / MAIN_SCRIPT).is_file():
        return folder / MAIN_SCRIPT
    return named[0] if len(named) == 1 else None


def compiled(path: Path) -> Iterator[LintFinding]:
    """Whether a file is Python."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of other people's escapes
            compile(path.read_bytes(), path.name, "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError, OSError) as error:
        evidence = f"{type(error).__name__}: {error}"[:200]
        yield LintFinding("error", path.name, "the code does not compile", evidence, "README: it must run", "")


def counted_code(main: Path, scripts: list[Path], claim: Claim, contest: Contest) -> Iterator[LintFinding]:
    """Whether the size that is claimed for the code is that of the script."""
    size, cap = main.stat().st_size, min(contest.artifact_bytes, claim.byte_budget or contest.artifact_bytes)
    helpers = [path for path in scripts if path != main and path.stem in imported_names(main)]
    if helpers:
        extra = sum(path.stat().st_size for path in helpers)
        evidence = f"{', '.join(path.name for path in helpers)}: {extra:,} bytes that {main.name} imports"
        yield LintFinding("warning", main.name, "code outside the script counts too", evidence, CODE_RULE, "one file")
        size += extra
    if claim.code_bytes is None or claim.total_bytes is None or size == claim.code_bytes:
        return
    raw = claim.total_bytes - claim.code_bytes + size
    evidence = f"{size:,} bytes here, {claim.code_bytes:,} claimed; with {size:,} the total is {raw:,} of {cap:,}"
    if raw > cap:
        cause = "the code as it stands here would exceed the byte budget"
        rule = f"{CODE_RULE}; accepted records report a compressed wrapper (#1855)"
        yield LintFinding("warning", main.name, cause, evidence, rule, "submit the wrapper that was counted")
    else:
        severity: Severity = "warning" if size > claim.code_bytes else "note"
        cause = "the code is not of the size that is claimed"
        yield LintFinding(severity, main.name, cause, evidence, CODE_RULE, f"bytes_code: {size}")


def imported_names(path: Path) -> set[str]:
    """The first words of everything that a script imports; none where it cannot be parsed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, RecursionError, MemoryError, OSError):
        return set()
    return script_imports(tree)


def script_imports(tree: ast.Module) -> set[str]:
    """The first words of everything that a module imports, inside functions too."""
    whole = [alias.name for node in walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    parts = [node.module for node in walk(tree) if isinstance(node, ast.ImportFrom) and node.module]
    return {name.partition(".")[0] for name in whole + parts}


def started_script(folder: Path, main: Path) -> Iterator[LintFinding]:
    """Whether the script starts: run with `--help` in a copy of the folder, without anything else in reach."""
    with tempfile.TemporaryDirectory() as place:
        copy = Path(shutil.copytree(folder, Path(place) / "submission"))
        command = [sys.executable, "-P", main.name, "--help"]
        try:
            ran = subprocess.run(command, cwd=copy, capture_output=True, timeout=START_SECONDS, check=False)
        except subprocess.TimeoutExpired:
            evidence = f"still running after {START_SECONDS:g} s: it reads no arguments and has begun to train"
            yield LintFinding("note", main.name, "the script was started and stopped", evidence, "README: it must run")
            return
    if ran.returncode == 0:
        return
    last = ran.stderr.decode(errors="replace").strip().splitlines()[-1:]
    evidence = f"exit code {ran.returncode}: {''.join(last)[:200]}"
    # A script that takes no arguments begins at once, and here there may be no GPU and no data.
    wanting = any(word in evidence for word in ("CUDA", "cuda", "GPU", "NVIDIA", "FileNotFound", "No module named"))
    cause = "the script did not start here" if wanting else "the script does not start"
    yield LintFinding("warning" if wanting else "error", main.name, cause, evidence, "README: it must run", "")


def listed_code(folder: Path, logs: Mapping[str, str]) -> Iterator[LintFinding]:
    """Whether logs that hold the source of a script hold the one that is submitted."""
    main = main_script_of(folder)
    if main is None:
        return
    source = [line.rstrip() for line in main.read_text(encoding="utf-8", errors="replace").splitlines()]
    head = next((source[n : n + LISTING_LINES] for n in range(len(source)) if source[n].startswith("import ")), [])
    if len(head) < LISTING_LINES:
        return
    for name, text in logs.items():
        flat = "\n".join(line.rstrip() for line in text.splitlines())
        if "\n".join(head) in flat and "\n".join(source).strip() not in flat:
            evidence = f"it lists a script that begins like {main.name} and goes on otherwise"
            cause = "the log's source is not the submitted script"
            yield LintFinding("warning", name, cause, evidence, "README: logs by the script", "submit what ran")
