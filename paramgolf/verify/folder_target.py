"""A submission's folder as a case, ours or not: what `submission.json`, logs, code and weights tell.

Without a command nothing of it is run: what can be judged are sizes, times, the bytes behind a pair of scores, and the
margin. With one, the score is taken again in a copy of the folder, offline, and what it reads is noted.
"""

import math
from collections.abc import Sequence
from pathlib import Path

from paramgolf.bundle.claim import Claim, read_claim
from paramgolf.bundle.training_log import LogFacts, read_training_log
from paramgolf.contest import Contest
from paramgolf.data.dataset import Dataset
from paramgolf.errors import UsageError
from paramgolf.verify.byte_accounting import BYTES, ByteClaim, implied_bytes, official_split
from paramgolf.verify.containment import Sizes
from paramgolf.verify.judge import Case
from paramgolf.verify.reproduction import REPRODUCTION, Claimed, replayed_command
from paramgolf.verify.run_target import scoring_files, validation_bytes
from paramgolf.verify.time_budget import Spent, spent_of_log

SCRIPT = "train_gpt.py"
WEIGHTS = (".pgolf", ".ptz", ".pt", ".safetensors", ".xz", ".zst", ".br", ".zlib", ".lrz")
"""How files of compressed weights end."""


def is_submission(path: Path) -> bool:
    """Whether `path` is a folder that was made to be submitted."""
    return path.is_dir() and (bool(list(path.glob("submission*.json"))) or (path / SCRIPT).is_file())


def folder_case(
    path: Path,
    *,
    contest: Contest,
    data: Dataset | None,
    best: Sequence[float],
    command: str | None = None,
    seconds: float = 3600.0,
) -> Case:
    """The submission in `path`; `data` is that on which its score was taken, `command` takes it again in its folder.

    Raises `UsageError` when there is nothing of a submission in it, `DataError` for JSON that is none.
    """
    if not is_submission(path):
        raise UsageError(
            f"{path} is neither a run's folder nor a submission's",
            evidence=f"it has no config.toml, no submission.json and no {SCRIPT}",
            fix="paramgolf verify runs/FOLDER, a submission's folder, or module:Predictor",
        )
    claims = sorted(path.glob("submission*.json"))
    claim = read_claim(claims[0].read_bytes()) if claims else Claim()
    logs = {log.name: read_training_log(log.read_text("utf-8", "replace")) for log in sorted(path.glob("*.log"))}
    tokens, per_target = validation_bytes(data) if data else (None, None)
    counted = claimed_bytes(claim, logs)
    told = counted[1] if counted else "no val_loss, val_bpb and count of tokens that belong together"
    seeds = tuple(seed.val_bpb for seed in claim.seeds if seed.val_bpb is not None)
    return Case(
        target=str(path),
        kind="folder",
        contest=contest,
        tokens=tokens,
        tokenizer=data.tokenizer if data else None,
        bytes_claim=stated_claim(counted, tokens is not None and per_target is not None),
        claimed_tokens=counted[2] if counted else None,
        sizes=tuple(folder_sizes(path, claim, logs)),
        spent=folder_times(claim, logs),
        train=data.train if data else (),
        val=data.val if data else (),
        claimed=Claimed(claim.val_loss, claim.val_bpb, same_device=False) if command else None,
        replay=(lambda: replayed_command(path, command, seconds=seconds)) if command else None,
        replay_files=scoring_files(data) if data else (),
        missing={
            BYTES: f"the data is not here (--data): {told}",
            REPRODUCTION: "name what scores the artifact in its folder: --command 'python train_gpt.py …'",
        },
        scores=seeds or ((claim.val_bpb,) if claim.val_bpb is not None else ()),
        best=tuple(best),
        bytes_per_token=bytes_per_token(claim, counted),
        facts=(
            ("name", claim.name or path.name),
            ("stated score", f"{claim.val_bpb} bits per byte, {claim.val_loss} nats a token"),
            ("seeds", ", ".join(str(seed.seed) for seed in claim.seeds) or "none told"),
            ("logs", ", ".join(logs) or "none"),
            ("bytes behind the scores", told),
        ),
    )


Counted = tuple[int, str, int]


def claimed_bytes(claim: Claim, logs: dict[str, LogFacts]) -> Counted | None:
    """Bytes that the stated scores imply, how that was found, and the tokens; None where too little is stated."""
    for name, facts in logs.items():
        final = next((score for score in reversed(facts.scores) if not score.diagnostic and score.val_bpb), None)
        if final is not None and facts.val_tokens:
            total = implied_bytes(final.val_loss, final.val_bpb, facts.val_tokens)
            said = f"{name}: loss {final.val_loss} / ln 2 · {facts.val_tokens:,} tokens / bpb {final.val_bpb}"
            return total, f"{said} = {total:,} bytes", facts.val_tokens
    if claim.val_bytes and claim.val_tokens:
        return claim.val_bytes, f"submission.json: {claim.val_bytes:,} bytes", claim.val_tokens
    return None


def stated_claim(counted: Counted | None, known: bool) -> ByteClaim | None:
    """The claim to hold against the text of the data that is there, or against the official split's known bytes."""
    if counted is None or not (known or official_split(counted[2])):
        return None
    return ByteClaim(counted[0], rounding=precision(counted[0]))


def precision(total: int) -> int:
    """How far a count that was worked out from scores of eight digits may be off."""
    return max(2, math.ceil(total * 2e-7))


def bytes_per_token(claim: Claim, counted: Counted | None) -> float | None:
    """Bytes a token, from the pair of scores."""
    if claim.val_loss and claim.val_bpb:
        return claim.val_loss / math.log(2) / claim.val_bpb
    return counted[0] / counted[2] if counted else None


def folder_sizes(path: Path, claim: Claim, logs: dict[str, LogFacts]) -> list[Sizes]:
    """The bytes of every seed: of the files where weights are there, else what logs and claims say."""
    script = path / SCRIPT
    code = script.stat().st_size if script.is_file() else None
    weights = [file for file in sorted(path.iterdir()) if file.suffix in WEIGHTS and file.is_file()]
    if weights and code is not None:
        return [Sizes(weight.stat().st_size, code, claimed=only_total(claim, len(weights))) for weight in weights]
    told = [
        Sizes(facts.model_bytes, facts.code_bytes, raw_code=code, claimed=facts.total_bytes)
        for facts in logs.values()
        if facts.model_bytes is not None and facts.code_bytes is not None
    ]
    totals = [total for total in (*(seed.total_bytes for seed in claim.seeds), claim.total_bytes) if total is not None]
    return told or [Sizes(total, 0) for total in dict.fromkeys(totals)]


def only_total(claim: Claim, weights: int) -> int | None:
    """The stated total, where there are no other seeds that it could be of."""
    return claim.total_bytes if weights == 1 else None


def folder_times(claim: Claim, logs: dict[str, LogFacts]) -> tuple[Spent, ...]:
    """The seconds of every seed: of the logs, else as stated."""
    told = tuple(spent_of_log(facts, name) for name, facts in logs.items())
    stated = [(seed.train_seconds, seed.eval_seconds, f"seed {seed.seed}") for seed in claim.seeds]
    stated = stated or [(claim.train_seconds, claim.eval_seconds, "submission.json")]
    return told or tuple(
        Spent(train=train, evaluation=evaluation, source=source)
        for train, evaluation, source in stated
        if train is not None or evaluation is not None
    )
