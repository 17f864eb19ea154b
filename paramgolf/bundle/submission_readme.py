"""What people read of a submission: the README and the text of the pull request, made from the runs and never typed."""

import math
import statistics
from collections.abc import Sequence
from typing import Any

from paramgolf.bundle.significance import MarginReading, compared_scores, seeds_wanted
from paramgolf.bundle.submission import Submission
from paramgolf.bundle.submission_json import technique_names
from paramgolf.config import differences, source
from paramgolf.registry import TECHNIQUES


def readme_text(submission: Submission) -> str:
    """README.md: scores, budgets, significance, differences, credits, how to repeat it."""
    results = submission.results
    mean = statistics.fmean(result.val_bpb for result in results)
    loss = statistics.fmean(result.val_loss for result in results)
    parts = [
        f"# {submission.name}",
        submission.blurb,
        f"**{mean:.5f} bits per byte**, {loss:.5f} nats a token, mean of {len(results)} "
        f"seed{'s' if len(results) > 1 else ''}; {max(map(submission.total_bytes, results)):,} bytes at most.",
        f"## Results\n\n{seed_table(submission)}",
        f"All finished runs of this configuration are counted.{left_out(submission)}",
    ]
    if submission.rival is not None:
        parts.append(f"## Significance\n\n{significance_text(submission)}")
    parts += [
        f"## What is different from `{submission.base.name}`\n\n{difference_table(submission)}",
        f"## Credits\n\n{credit_table(submission)}",
        f"## How to repeat it\n\n{repetition(submission)}",
    ]
    return "\n\n".join(parts) + "\n"


def left_out(submission: Submission) -> str:
    """What the README says of runs that do not count."""
    return f" Except: {submission.left_out}" if submission.left_out else ""


def seed_table(submission: Submission) -> str:
    """A row a seed, and their mean and deviation."""
    header = ("seed", "bpb", "nats a token", "bpb before export", "steps", "training", "evaluation", "bytes")
    results = submission.results
    rows = [
        (
            str(result.seed),
            f"{result.val_bpb:.8f}",
            f"{result.val_loss:.8f}",
            f"{result.val_bpb_raw:.5f}",
            f"{result.steps:,}",
            f"{result.train_seconds:.1f} s",
            f"{result.eval_seconds:.1f} s",
            f"{submission.total_bytes(result):,}",
        )
        for result in results
    ]
    scores, losses = [result.val_bpb for result in results], [result.val_loss for result in results]
    rows.append(("mean", f"{statistics.fmean(scores):.8f}", f"{statistics.fmean(losses):.8f}", "", "", "", "", ""))
    if len(results) > 1:
        deviations = (f"{statistics.stdev(scores):.8f}", f"{statistics.stdev(losses):.8f}")
        rows.append(("deviation", *deviations, "", "", "", "", ""))
    return markdown_table(header, rows)


def significance_text(submission: Submission) -> str:
    """Both readings of the rules against the score to beat."""
    assert submission.rival is not None
    scores = [result.val_bpb for result in submission.results]
    best = submission.rival.scores
    ratio = submission.results[0].val_bytes / submission.results[0].val_tokens
    readings = margin_readings(submission)
    rows = [reading_row(reading) for reading in readings]
    gain = statistics.fmean(best) - statistics.fmean(scores)
    lines = [
        f"Against {submission.rival.name}, {statistics.fmean(best):.5f} bpb"
        f" ({f'{len(best)} seeds' if len(best) > 1 else 'its mean alone'}): {gain:+.5f} bpb better,"
        f" {gain * math.log(2) * ratio:+.5f} nats a token of this tokenizer ({ratio:.4f} bytes each).",
        markdown_table(("reading", "margin", "test", "t", "df", "p", "wanted", ""), rows),
    ]
    wanted = seeds_wanted(scores, statistics.fmean(best) - readings[0].margin)
    if not readings[0].kept and wanted is not None:
        lines.append(f"With this mean and deviation {wanted} seeds would keep the README's reading.")
    return "\n\n".join(lines)


def margin_readings(submission: Submission) -> tuple[MarginReading, ...]:
    """Both readings of the rules; none where there is nothing to beat."""
    if submission.rival is None:
        return ()
    scores = [result.val_bpb for result in submission.results]
    ratio = submission.results[0].val_bytes / submission.results[0].val_tokens
    return compared_scores(scores, submission.rival.scores, ratio)


def reading_row(reading: MarginReading) -> tuple[str, ...]:
    """One reading as a row of a table."""
    outcome = reading.outcome
    shown = [("-" if value is None else f"{value:.4g}") for value in (outcome.t, outcome.df, outcome.p)]
    verdict = "kept" if reading.kept else "not kept" if outcome.p is not None else "too few seeds"
    return (reading.name, f"{reading.margin:.5f} bpb", outcome.test, *shown, f"p < {reading.limit:g}", verdict)


def difference_table(submission: Submission) -> str:
    """What the configuration changes in the base preset, by dotted path."""
    changes = [change for change in differences(submission.base, submission.run) if change.path not in ("name", "seed")]
    if not changes:
        return "Nothing: it is that preset as it stands."
    rows = [(f"`{change.path}`", shown_setting(change.old), shown_setting(change.new)) for change in changes]
    return markdown_table(("setting", "there", "here"), rows)


def shown_setting(value: Any) -> str:
    """A setting in a cell of a table."""
    return "" if value is None else f"`{source(value)}`"


def credit_table(submission: Submission) -> str:
    """The techniques of the configuration and where they come from."""
    names = technique_names(submission.run)
    rows = [(f"`{name}`", TECHNIQUES[name].fills, TECHNIQUES[name].source) for name in names]
    return markdown_table(("technique", "place", "source"), rows)


def repetition(submission: Submission) -> str:
    """The commands, and what they need."""
    result = submission.results[0]
    seeds = " ".join(str(each.seed) for each in submission.results)
    tokenizer = submission.tokenizer.name if submission.tokenizer else result.tokenizer
    launcher = f"torchrun --nproc_per_node {result.world}" if result.world > 1 else "python"
    return "\n".join(
        (
            "```",
            "pip install -r requirements.txt",
            f"for seed in {seeds}; do",
            f"  {launcher} train_gpt.py --data DATA/datasets/{result.dataset} --tokenizer {tokenizer}"
            " --seed $seed --out seed$seed",
            "done",
            "```",
            "",
            f"Ran on {result.world} x {result.device} with torch {result.torch} and attention by"
            f" {result.attention_backend}; data `{result.dataset}`, tokenizer `{result.tokenizer}`, fingerprint"
            f" `{result.data_fingerprint}`; {result.val_tokens:,} targets of {result.val_bytes:,} bytes are scored,"
            f" each once. Configuration `{result.digest}` is in `config.toml`. `SHA256SUMS` lists the files as made.",
        )
    )


def pull_request_text(submission: Submission) -> str:
    """Title and description of the pull request."""
    results = submission.results
    mean = statistics.fmean(result.val_bpb for result in results)
    record = "non_record" not in submission.track
    folder = f"records/track_{submission.track}/{submission.folder_name}"
    trained, scored = (max(getattr(r, f"{what}_seconds") for r in results) for what in ("train", "eval"))
    parts = [
        f"{'Record' if record else 'Non-record'}: {submission.name} (val_bpb {mean:.5f}, {len(results)} seeds)",
        submission.blurb,
        seed_table(submission),
        significance_text(submission) if submission.rival else "",
        "\n".join(
            (
                f"* adds `{folder}` only",
                f"* largest artifact {max(map(submission.total_bytes, results)):,} bytes,"
                f" code {len(submission.code.script):,} of them",
                f"* training {trained:.1f} s, evaluation {scored:.1f} s at most",
                f"* seeds {', '.join(str(result.seed) for result in results)}; all finished runs count."
                f"{left_out(submission)}",
            )
        ),
        f"Techniques: {', '.join(technique_names(submission.run))}. Sources and differences are in the README.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; bars inside cells are escaped."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
