"""`submission.json` as it is written: the later form of the challenge with every number, strictly checked (R6)."""

import json
import math
import statistics
from datetime import date
from typing import Any

from paramgolf.bundle.claim import REQUIRED
from paramgolf.bundle.lint_finding import implied_ratio
from paramgolf.bundle.submission import Submission
from paramgolf.contest import Contest
from paramgolf.errors import UsageError
from paramgolf.registry import name_of


def submission_values(submission: Submission) -> dict[str, Any]:
    """The object of `submission.json`; scores with eight digits, sizes in bytes, times in seconds."""
    results = submission.results
    totals = [submission.total_bytes(result) for result in results]
    values: dict[str, Any] = {
        "author": submission.author,
        "github_id": submission.github_id,
        "name": submission.name,
        "blurb": submission.blurb,
        "date": submission.date,
        "track": submission.track,
        "val_loss": exact(statistics.fmean(result.val_loss for result in results)),
        "val_bpb": exact(statistics.fmean(result.val_bpb for result in results)),
    }
    if len(results) > 1:
        values["val_loss_std"] = exact(statistics.stdev(result.val_loss for result in results))
        values["val_bpb_std"] = exact(statistics.stdev(result.val_bpb for result in results))
    values["seeds"] = [result.seed for result in results]
    values["seed_results"] = {
        str(result.seed): {
            "val_loss": exact(result.val_loss),
            "val_bpb": exact(result.val_bpb),
            "val_bpb_before_export": exact(result.val_bpb_raw),
            "artifact_bytes": total,
            "model_bytes": result.artifact_bytes,
            "steps": result.steps,
            "step_ms_median": round(result.step_ms_median, 2),
            "train_time_s": round(result.train_seconds, 3),
            "eval_time_s": round(result.eval_seconds, 3),
        }
        for result, total in zip(results, totals, strict=True)
    }
    values |= {
        "artifact_bytes_mean": round(statistics.fmean(totals)),
        "artifact_bytes_max": max(totals),
        "bytes_total": max(totals),
        "bytes_code": len(submission.code.script),
        "train_steps_mean": round(statistics.fmean(result.steps for result in results), 2),
        "val_tokens": results[0].val_tokens,
        "val_bytes": results[0].val_bytes,
        "tokenizer": results[0].tokenizer,
        "dataset": results[0].dataset,
        "data_fingerprint": results[0].data_fingerprint,
        "model_params": results[0].params,
        "hardware": f"{results[0].world}x {results[0].device}",
        "pytorch_version": results[0].torch,
        "attention_backend": results[0].attention_backend,
        "configuration_digest": results[0].digest,
        "contest": results[0].contest,
        "technique_summary": " + ".join(technique_names(submission.run)),
    }
    if results[0].byte_budget != Contest().artifact_bytes:
        values["byte_budget"] = results[0].byte_budget
    return values | compared_values(submission, values)


def compared_values(submission: Submission, values: dict[str, Any]) -> dict[str, Any]:
    """How far the score lies from the one to beat, in bits per byte and nats of this tokenizer's tokens."""
    if submission.rival is None:
        return {}
    best = statistics.fmean(submission.rival.scores)
    difference = values["val_bpb"] - best
    ratio = implied_ratio(values["val_loss"], values["val_bpb"])
    return {
        "comparison_baseline": submission.rival.name,
        "comparison_baseline_bpb": exact(best),
        "delta_vs_baseline_bpb": exact(difference),
        "delta_vs_baseline_nats": exact(difference * math.log(2) * ratio),
    }


def technique_names(config: Any) -> list[str]:
    """Short names of the techniques in a configuration, in its order."""
    name = name_of(config)
    if isinstance(config, tuple):
        inner = list(config)
    else:
        inner = [getattr(config, field) for field in getattr(config, "__dataclass_fields__", ())]
    names = [found for item in inner for found in technique_names(item)]
    return list(dict.fromkeys(([name] if name else []) + names))


def exact(value: float) -> float:
    """Eight digits behind the point."""
    return round(value, 8)


def strict_json(values: dict[str, Any]) -> str:
    """`values` as the text of the file. Raises `UsageError` for what no reader should have to put up with."""
    wrong = [key for key in REQUIRED if values.get(key) in (None, "")]
    if wrong:
        raise UsageError(f"{', '.join(wrong)} cannot be empty", fix=f"--{wrong[0].replace('_', '-')} TEXT")
    try:
        date.fromisoformat(values["date"])
    except (TypeError, ValueError):
        raise UsageError(f"date={values['date']!r} is no ISO date", fix="--date 2026-05-01") from None
    sizes = [result["artifact_bytes"] for result in values["seed_results"].values()]
    assert values["bytes_total"] == max(sizes)
    assert sorted(map(str, values["seeds"])) == sorted(values["seed_results"])
    assert all(size == result["model_bytes"] + values["bytes_code"] for size, result in each_size(values))
    return json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def each_size(values: dict[str, Any]) -> list[tuple[int, dict[str, Any]]]:
    """The size of each seed with its numbers."""
    return [(result["artifact_bytes"], result) for result in values["seed_results"].values()]
