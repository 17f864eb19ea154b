"""The table at the end of a run."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.text import Text

from paramgolf.cli.output import print_rows, print_text
from paramgolf.cli.progress import duration
from paramgolf.contest import Contest
from paramgolf.lab.reference import Reference
from paramgolf.result import Result


def print_summary(result: Result, contest: Contest, folder: Path, scale: Sequence[Reference] = ()) -> None:
    """Scores on the scale of general compressors, what was spent of each budget, and where the files are."""
    print_text(
        f"{result.preset} {result.digest}, seed {result.seed}: {result.params:,} parameters, {result.steps:,} steps "
        f"in {duration(result.train_seconds)} on {result.world} x {result.device}\n"
    )
    print_rows(
        ("bits per byte", "", f"{result.val_bytes:,} bytes of validation text"), score_rows(result, scale), right=(1,)
    )
    print_text()
    print_rows(("budget", "spent", "of", "", ""), budget_rows(result, contest), right=(1, 2, 3))
    print_text(f"\nfiles in {folder}: artifact.pgolf, result.json, train.log, events.jsonl, config.toml, checkpoint/")


def score_rows(result: Result, scale: Sequence[Reference]) -> Iterable[tuple[str | Text, str, str]]:
    """The scores, then what general compressors need for the same text."""
    yield "before export", f"{result.val_bpb_raw:.4f}", ""
    lost = result.val_bpb_export - result.val_bpb_raw
    yield "from the artifact", f"{result.val_bpb_export:.4f}", f"{lost:+.4f} by export"
    gained = result.val_bpb - result.val_bpb_export
    yield Text("score", "bold"), f"{result.val_bpb:.4f}", f"{gained:+.4f} by the evaluation protocol"
    for item in scale:
        part = "" if item.text_bytes >= result.val_bytes else f", its first {item.text_bytes:,} bytes"
        yield item.compressor, f"{item.bits_per_byte:.4f}", f"the same text as one file{part}"


def budget_rows(result: Result, contest: Contest) -> Iterable[tuple[str, str, str, str, str]]:
    """Spent and allowed, for bytes and for both clocks."""
    sizes = f"weights {result.artifact_bytes:,} + code {result.code_bytes:,}, bytes"
    compiled = f"seconds, after {result.warmup_seconds:.0f} of compiling" if result.warmup_seconds else "seconds"
    rows: tuple[tuple[str, float, float, bool, str], ...] = (
        ("bytes", result.total_bytes, result.byte_budget, result.within_budget.bytes, sizes),
        ("training", result.train_seconds, contest.train_seconds, result.within_budget.train, compiled),
        ("evaluation", result.eval_seconds, contest.eval_seconds, result.within_budget.eval, "seconds"),
    )
    for name, spent, allowed, kept, note in rows:
        digits = 0 if name == "bytes" else 1
        share = f"{spent / allowed:.1%}"
        yield name, f"{spent:,.{digits}f}", f"{allowed:,.0f}", share, note if kept else f"{note}: OVER THE BUDGET"
