"""What a `submission.json` claims: read from any that people wrote, written in one strict form (R6).

There is no official schema: 57 merged files use 139 keys. Read are the first form (nine fields), the later one with
`seeds` and `seed_results`, and forms with `seeds` as an object or under other names; numbers may be text. Nothing but
broken JSON is refused. What could not be used is said in `oddities`.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from paramgolf.errors import DataError

LOSS_KEYS = ("val_loss", "val_loss_mean", "mean_val_loss", "mean_val_loss_nats", "val_loss_nats")
BPB_KEYS = ("val_bpb", "val_bpb_mean", "mean_bpb", "mean_val_bpb", "bpb")
TOTAL_KEYS = ("bytes_total", "total_bytes", "artifact_bytes_max", "artifact_bytes", "submission_bytes")
CODE_KEYS = ("bytes_code", "code_bytes")
MODEL_KEYS = ("bytes_model", "model_bytes")
TRAIN_KEYS = ("train_time_s", "train_seconds", "train_time_seconds", "wallclock_seconds")
EVAL_KEYS = ("eval_time_s", "eval_seconds", "eval_time_seconds", "ttt_time_s")
STEP_KEYS = ("steps", "step_stop", "train_steps")

REQUIRED = ("author", "github_id", "name", "blurb", "date", "val_loss", "val_bpb", "bytes_total", "bytes_code")
"""The fields of the first form, which every later one should hold too."""


@dataclass(frozen=True, kw_only=True)
class SeedClaim:
    """What is claimed of one seed; None for what is not."""

    seed: int
    val_loss: float | None = None
    val_bpb: float | None = None
    total_bytes: int | None = None
    """Code and model; most files call it `artifact_bytes`."""
    steps: int | None = None
    train_seconds: float | None = None
    eval_seconds: float | None = None


@dataclass(frozen=True, kw_only=True)
class Claim:
    """What one file claims; None for what it does not."""

    name: str | None = None
    author: str | None = None
    github_id: str | None = None
    blurb: str | None = None
    date: str | None = None
    track: str | None = None
    val_loss: float | None = None
    val_bpb: float | None = None
    loss_deviation: float | None = None
    bpb_deviation: float | None = None
    total_bytes: int | None = None
    code_bytes: int | None = None
    model_bytes: int | None = None
    train_seconds: float | None = None
    eval_seconds: float | None = None
    val_tokens: int | None = None
    val_bytes: int | None = None
    byte_budget: int | None = None
    """Of another contest than the challenge."""
    seeds: tuple[SeedClaim, ...] = ()
    other_seeds: tuple[int, ...] = ()
    """Seeds that the file names elsewhere: runs that were made and do not count."""
    missing: tuple[str, ...] = ()
    """Those of `REQUIRED` that it lacks under every known name."""
    oddities: tuple[str, ...] = ()

    @property
    def is_record(self) -> bool:
        """Whether it is meant for the record track, as far as it says."""
        return not re.search(r"non[-_ ]?record", f"{self.track} {self.name}", re.IGNORECASE)


class ClaimReader:
    """Reads fields of an object under any of their names and notes what cannot be used."""

    def __init__(self, values: Mapping[str, Any], where: str = "") -> None:
        self.values = values
        self.where = where
        self.oddities: list[str] = []

    def number(self, *keys: str) -> float | None:
        """The first of `keys` that holds a finite number; text that spells one counts."""
        for key in keys:
            value = self.values.get(key)
            if value is None:
                continue
            found = finite_number(value)
            if found is None or not isinstance(value, int | float):
                self.oddities.append(f"{self.where}{key} is {shown_json(value)}, a number is wanted")
            if found is not None:
                return found
        return None

    def whole(self, *keys: str) -> int | None:
        """As `number`, rounded."""
        found = self.number(*keys)
        return None if found is None else round(found)

    def seconds(self, *keys: str) -> float | None:
        """A time under one of `keys`, or in milliseconds under its `_ms` twin."""
        found = self.number(*keys)
        if found is not None:
            return found
        thousand = self.number(*(f"{key.removesuffix('_s').removesuffix('_seconds')}_ms" for key in keys))
        return None if thousand is None else thousand / 1000

    def text(self, key: str) -> str | None:
        """The text under `key`."""
        value = self.values.get(key)
        if value is not None and not isinstance(value, str):
            self.oddities.append(f"{self.where}{key} is {shown_json(value)}, text is wanted")
        return value if isinstance(value, str) else None


def read_claim(content: bytes | str) -> Claim:
    """The claim in the text of a file. Raises `DataError` when it is not JSON or no object."""
    try:
        values = json.loads(content if isinstance(content, str) else content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise DataError(
            "submission.json is not JSON", evidence=str(error)[:200], fix="python -m json.tool FILE"
        ) from error
    if not isinstance(values, dict):
        raise DataError("submission.json holds no object", evidence=f"it holds {shown_json(values)}")
    reader = ClaimReader(values)
    seeds = tuple(seed_claims(values, reader.oddities))
    bpb, loss, total = reader.number(*BPB_KEYS), reader.number(*LOSS_KEYS), reader.whole(*TOTAL_KEYS)
    if bpb is None and loss is not None and 0.5 < loss < 1.4 and not seeds:
        # One record of March did so; no loss of the challenge was ever that low.
        reader.oddities.append(f"val_loss is {loss}, which is bits per byte, and val_bpb is missing")
        bpb, loss = loss, None
    named = {"val_loss": LOSS_KEYS, "val_bpb": BPB_KEYS, "bytes_total": TOTAL_KEYS, "bytes_code": CODE_KEYS}
    return Claim(
        name=reader.text("name"),
        author=reader.text("author"),
        github_id=reader.text("github_id"),
        blurb=reader.text("blurb"),
        date=reader.text("date"),
        track=reader.text("track"),
        val_loss=loss,
        val_bpb=bpb,
        loss_deviation=reader.number("val_loss_std", "std_val_loss", "std_val_loss_nats"),
        bpb_deviation=reader.number("val_bpb_std", "std_bpb", "std_val_bpb"),
        total_bytes=total,
        code_bytes=reader.whole(*CODE_KEYS),
        model_bytes=reader.whole(*MODEL_KEYS, *(key for key in values if key.startswith("bytes_model_"))),
        train_seconds=reader.seconds(*TRAIN_KEYS),
        eval_seconds=reader.seconds(*EVAL_KEYS),
        val_tokens=reader.whole("val_tokens"),
        val_bytes=reader.whole("val_bytes"),
        byte_budget=reader.whole("byte_budget"),
        seeds=seeds,
        other_seeds=tuple(sorted(named_seeds(values) - {seed.seed for seed in seeds})) if seeds else (),
        missing=tuple(key for key in REQUIRED if all(values.get(name) is None for name in named.get(key, (key,)))),
        oddities=tuple(reader.oddities),
    )


def seed_claims(values: Mapping[str, Any], oddities: list[str]) -> Iterator[SeedClaim]:
    """The seeds of a file: `seed_results` or `seeds` as an object or a list of objects, else `seeds` as numbers."""
    results = values.get("seed_results") or values.get("seeds") or []
    if isinstance(results, Mapping):
        entries = list(results.items())
    elif isinstance(results, list):
        entries = [(item.get("seed"), item) if isinstance(item, Mapping) else (item, {}) for item in results]
    else:
        oddities.append(f"seeds are {shown_json(results)}, a list is wanted")
        return
    for name, item in entries:
        seed = seed_number(name)
        if seed is None:
            oddities.append(f"{shown_json(name)} is no seed")
            continue
        reader = ClaimReader(item if isinstance(item, Mapping) else {}, f"seed {seed}: ")
        yield SeedClaim(
            seed=seed,
            val_loss=reader.number(*LOSS_KEYS),
            val_bpb=reader.number(*BPB_KEYS, "val_var_bpb"),
            total_bytes=reader.whole(*TOTAL_KEYS),
            steps=reader.whole(*STEP_KEYS),
            train_seconds=reader.seconds(*TRAIN_KEYS),
            eval_seconds=reader.seconds(*EVAL_KEYS),
        )
        oddities += reader.oddities


def seed_number(value: Any) -> int | None:
    """A seed from `42`, `"42"` or `"seed_42"`."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        return None
    found = re.fullmatch(r"(?:seed[_ ]?)?(\d{1,18})", str(value).strip())
    return int(found[1]) if found else None


def named_seeds(value: Any, key: str = "", depth: int = 0) -> set[int]:
    """Every seed that stands in a list, or as a name in an object, under a key that speaks of seeds."""
    found: set[int] = set()
    if depth > 6:
        return found
    if isinstance(value, Mapping):
        for name, inner in value.items():
            if "seed" in key and (seed := seed_number(name)) is not None:
                found.add(seed)
            found |= named_seeds(inner, f"{key} {name}".lower(), depth + 1)
    elif isinstance(value, list) and "seed" in key:
        found = {seed for item in value if isinstance(item, int) and (seed := seed_number(item)) is not None}
    return found


def finite_number(value: Any) -> float | None:
    """`value` as a finite float, text included; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value.replace(",", "").replace("_", "") if isinstance(value, str) else value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def shown_json(value: Any) -> str:
    """A value of JSON in a message."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
